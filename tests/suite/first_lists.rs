//! The beginning of every test of the engine. In: names of the nodes that it was told of. Out: the first lists of home, and leadership.

use isobar::{model::ids::ClusterId, scheduler::input::Input};

/// Whoever is told this may decide: nobody else is there, and no pods.
pub fn first_lists(nodes: impl IntoIterator<Item = Box<str>>) -> [Input; 3] {
    let (home, nodes) = (ClusterId::HOME, nodes.into_iter().collect());
    [Input::NodesListed(home, nodes), Input::PodsListed(home, std::iter::empty().collect()), Input::Leading(true)]
}
