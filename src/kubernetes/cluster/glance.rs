//! A look at all compute clusters by somebody who looks after none of them. In: home, and what connects by a kubeconfig. Out: for each cluster what an engine
//! is to be told of it, and what of it cannot be seen, with the reason. Nothing is written anywhere.

use futures::future::join_all;
use http::StatusCode;

use super::{
    Connect, access, facts, feed,
    object::{self, ClusterObject},
    probe,
    rest::{Rest, RestError},
    status::{self, kind},
};
use crate::{
    federation::spec::ComputeClusterSpec,
    kubernetes::wire::Watched,
    model::{ids::ClusterId, node::NodeFacts, pod::PodFacts, resources::ResourceList},
    scheduler::input::Input,
};

/// A cluster as it was found.
#[derive(Debug, Default)]
pub struct Glance {
    /// For the engine, in this order: the cluster, its nodes, the pods on them.
    pub inputs: Vec<Input>,
    /// What was not seen or is not used, and why; each names the cluster.
    pub remarks: Vec<String>,
}

/// Looks at all of them at once, so that one that does not answer costs the others nothing. `cordoned` tells of a cluster's virtual Node. Without the
/// definition of `ComputeCluster` there are none.
pub async fn all(home: &Rest, connect: &Connect, cordoned: impl Fn(&str) -> bool) -> Result<Vec<Glance>, RestError> {
    let objects = match home.list(object::COLLECTION, "").await {
        Err(error) if error.is(StatusCode::NOT_FOUND) => return Ok(Vec::new()),
        listed => listed?,
    };
    let mut objects: Vec<ClusterObject> = objects.iter().filter_map(ClusterObject::read).collect();
    objects.sort_by(|one, other| one.name.cmp(&other.name));
    if objects.is_empty() {
        return Ok(Vec::new());
    }
    let home_uid = probe::identity(home.api()).await.ok();
    let looks = (1..).zip(&objects).map(|(number, object)| {
        let look = Look { home, connect, home_uid: home_uid.as_deref(), id: ClusterId(number), object };
        look.at(cordoned(&object.name))
    });
    Ok(join_all(looks).await)
}

struct Look<'a> {
    home: &'a Rest,
    connect: &'a Connect,
    home_uid: Option<&'a str>,
    id: ClusterId,
    object: &'a ClusterObject,
}

/// What its API server says.
struct Seen {
    nodes: Vec<NodeFacts>,
    pods: Vec<PodFacts>,
    quota: ResourceList,
    remarks: Vec<String>,
}

impl Look<'_> {
    async fn at(self, cordoned: bool) -> Glance {
        let name = &self.object.name;
        let spec = match &self.object.spec {
            Ok(spec) => facts::problem(spec).map_or_else(|| Ok(spec.clone()), Err),
            Err(why) => Err(why.clone()),
        };
        let spec = match spec {
            Ok(spec) => spec,
            Err(why) => return Glance { inputs: Vec::new(), remarks: vec![format!("cluster {name} is left out: {why}")] },
        };
        let seen = self.visit(&spec).await;
        // Whether it takes pods is what the scheduler that looks after it last said.
        let ready = self.object.status.condition(kind::READY);
        let obstacle = ready.map_or(Some("Connecting"), |ready| Some(&*ready.reason).filter(|_| ready.status != "True"));
        let closed = status::closed(spec.state, cordoned, self.object.deleting, obstacle);
        let quota = seen.as_ref().map(|seen| seen.quota.clone()).unwrap_or_default();
        let facts = facts::cluster_facts(self.id, name, &spec, &quota, closed.as_deref());
        let mut glance = Glance { inputs: vec![Input::Cluster(Box::new(facts))], remarks: Vec::new() };
        match seen {
            Err(why) => glance.remarks.push(format!("cluster {name} is left out: {why}")),
            Ok(seen) => {
                let used = seen.nodes.iter().filter(|node| feed::is_selected(node, &spec)).count();
                let unused = seen.nodes.len() - used;
                if seen.nodes.is_empty() {
                    glance.remarks.push(format!("cluster {name} has no nodes"));
                } else if unused > 0 {
                    let of = seen.nodes.len();
                    glance.remarks.push(format!("cluster {name}: its nodeSelector or excludedTaints leave out {unused} of {of} nodes"));
                }
                glance.remarks.extend(seen.remarks.into_iter().map(|remark| format!("cluster {name}: {remark}")));
                glance.inputs.extend(seen.nodes.into_iter().map(Watched::seen));
                glance.inputs.extend(seen.pods.into_iter().map(Watched::seen));
            }
        }
        glance
    }

    async fn visit(&self, spec: &ComputeClusterSpec) -> Result<Seen, String> {
        let text = access::secret_text(self.home, &spec.access.kubeconfig_secret_ref).await.map_err(|error| error.to_string())?;
        let api = (self.connect)(&text, spec).map_err(|error| error.to_string())?;
        let uid = probe::identity(&api).await.map_err(|error| format!("it does not answer as it should: {error}"))?;
        if let Some(known) = self.object.status.cluster_uid.as_deref().filter(|known| *known != &*uid) {
            return Err(format!("the kubeconfig leads to another cluster (kube-system {uid}) than before ({known})"));
        }
        let remote = Rest::new(api);
        let namespace = self.run_namespace(spec);
        let listed = |what: &'static str| move |error: RestError| format!("its {what} cannot be listed: {error}");
        let (nodes, mut bad) = remote.facts::<NodeFacts>(NodeFacts::PATH, self.id).await.map_err(listed("nodes"))?;
        let mut remarks = Vec::new();
        let pods = match (remote.facts::<PodFacts>(PodFacts::PATH, self.id).await, &namespace) {
            (Err(error), Some(namespace)) if error.is(StatusCode::FORBIDDEN) => {
                remarks.push("pods of others there may not be seen, what they use counts as free".to_owned());
                remote.facts::<PodFacts>(&format!("/api/v1/namespaces/{namespace}/pods"), self.id).await
            }
            (listed, _) => listed,
        };
        let (pods, bad_pods) = pods.map_err(listed("pods"))?;
        bad.extend(bad_pods);
        remarks.extend(bad.iter().map(ToString::to_string));
        let quota = self.quota(&remote, namespace.as_deref()).await.unwrap_or_else(|why| {
            remarks.push(format!("quotas of its run namespace are not known: {why}"));
            ResourceList::default()
        });
        Ok(Seen { nodes, pods, quota, remarks })
    }

    async fn quota(&self, remote: &Rest, namespace: Option<&str>) -> Result<ResourceList, String> {
        let namespace = namespace.ok_or("the UID of kube-system at home cannot be read")?;
        let listed = remote.list(&format!("/api/v1/namespaces/{namespace}/resourcequotas"), "").await;
        listed.map(|quotas| facts::quota_left(&quotas)).map_err(|error| error.to_string())
    }

    /// `None` if it is named after home, and who home is cannot be found out.
    fn run_namespace(&self, spec: &ComputeClusterSpec) -> Option<Box<str>> {
        let named = spec.run_namespace.as_ref().is_some_and(|name| !name.is_empty());
        (named || self.home_uid.is_some()).then(|| facts::run_namespace(spec, self.home_uid.unwrap_or_default()))
    }
}
