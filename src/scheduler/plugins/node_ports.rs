//! `NodePorts`: no node where a host port that the pod wants is taken. Host ports in, a rule out.
//!
//! Source: kube-scheduler v1.37 `NodePorts`; which ports collide is [`HostPort::collides`].

use crate::{
    model::{class::PodClass, node::NodeRecord, ports::HostPort},
    scheduler::{
        change::{Change, Changes},
        framework::{CompiledFilter, FilterPlugin, NodeRule, Plugin, Reads, Refusal},
        nodes::Nodes,
    },
};

const REASON: &str = "node(s) didn't have free ports for the requested pod ports";

/// See the module.
pub struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn filter(&self) -> Option<&dyn FilterPlugin> {
        Some(self)
    }

    fn curing_changes(&self) -> Changes {
        Changes::NODE_ADD | Changes::POD_DELETE
    }

    fn cures(&self, class: &PodClass, change: &Change<'_>, _nodes: &Nodes) -> bool {
        match change {
            Change::PodDelete { class: gone, .. } => collide(&class.host_ports, &gone.host_ports),
            _ => true,
        }
    }
}

fn collide(wanted: &[HostPort], used: &[HostPort]) -> bool {
    used.iter().any(|used| wanted.iter().any(|wanted| wanted.collides(used)))
}

impl FilterPlugin for NodePorts {
    fn compile(&self, class: &PodClass, _nodes: &Nodes) -> CompiledFilter {
        if class.host_ports.is_empty() {
            return CompiledFilter::Skip;
        }
        CompiledFilter::Rule(Box::new(FreePorts(class.host_ports.clone())))
    }
}

struct FreePorts(Box<[HostPort]>);

impl NodeRule for FreePorts {
    fn reads(&self) -> Reads {
        Reads::Usage
    }

    fn admits(&self, node: &NodeRecord, _nodes: &Nodes) -> bool {
        !collide(&self.0, &node.ports)
    }

    fn refuses(&self, node: &NodeRecord, nodes: &Nodes) -> Option<Refusal> {
        (!self.admits(node, nodes)).then(|| Refusal::unschedulable(REASON))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{
            ids::NodeIx,
            pod::PodSpecFacts,
            ports::Protocol::{self, Tcp, Udp},
        },
        scheduler::plugins::fixtures::{World, node, pod},
    };

    fn wanting(ports: &[(&str, Protocol, u16)]) -> PodSpecFacts {
        let host_ports = ports.iter().map(|(ip, protocol, port)| HostPort::new(ip, *protocol, *port)).collect();
        PodSpecFacts { host_ports, ..pod(&[]) }
    }

    #[test]
    fn a_port_is_taken_once() {
        for (used, wanted, fits) in [
            (&[][..], &[("", Tcp, 80)][..], true),
            (&[("", Tcp, 80)], &[("", Tcp, 80)], false),
            (&[("", Tcp, 80)], &[("", Tcp, 81)], true),
            (&[("", Tcp, 80)], &[("", Udp, 80)], true),
            (&[("", Tcp, 80)], &[("10.0.0.1", Tcp, 80)], false),
            (&[("10.0.0.1", Tcp, 80)], &[("0.0.0.0", Tcp, 80)], false),
            (&[("10.0.0.1", Tcp, 80)], &[("10.0.0.2", Tcp, 80)], true),
            (&[("10.0.0.1", Tcp, 80)], &[("10.0.0.1", Tcp, 80)], false),
            (&[("::", Tcp, 80)], &[("10.0.0.1", Tcp, 80)], true),
            (&[("", Tcp, 80), ("", Udp, 53)], &[("", Tcp, 443), ("", Udp, 53)], false),
        ] {
            let mut world = World::new([node("a")]);
            world.run("a", &wanting(used));
            let want = if fits { "ok" } else { "-node(s) didn't have free ports for the requested pod ports" };
            assert_eq!(world.ask("NodePorts", &wanting(wanted)), [want], "{used:?} {wanted:?}");
        }
        assert_eq!(World::new([node("a")]).ask("NodePorts", &pod(&[])), ["skip"]);
    }

    #[test]
    fn a_pod_that_goes_cures_when_it_had_the_port() {
        let mut world = World::new([node("a")]);
        let class = world.class(&wanting(&[("", Tcp, 80)]));
        for (gone, want) in [(wanting(&[("1.2.3.4", Tcp, 80)]), true), (wanting(&[("", Tcp, 8080)]), false), (pod(&[]), false)] {
            let gone = world.class(&gone);
            assert_eq!(NodePorts.cures(&class, &Change::PodDelete { class: &gone, node: NodeIx(0) }, &world.nodes), want);
        }
        assert!(NodePorts.cures(&class, &Change::Node { old: None, new: world.nodes.at(0), what: Changes::NODE_ADD }, &world.nodes));
    }
}
