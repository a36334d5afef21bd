//! Profiles ready to run: resolved configuration in, plugins built and sorted by extension point out.

use std::sync::Arc;

use super::{
    framework::Plugin,
    plugins,
    profile::{ProfileSpec, TieBreak},
    queue::PLUGINS_PER_PROFILE_MAX,
};
use crate::model::{
    ids::ProfileIx,
    intern::{Interner, Sym},
};

/// A plugin's place in its profile.
pub type PluginIx = usize;

/// One profile with its plugins.
pub struct Profile {
    /// `schedulerName`.
    pub name: Arc<str>,
    /// The same, as pods have it interned.
    pub name_sym: Sym,
    /// Which of several best nodes is taken.
    pub tie_break: TieBreak,
    /// Seed of the tie-break.
    pub seed: u64,
    /// `None` or 100: all nodes are scored.
    pub percentage_of_nodes_to_score: Option<u8>,
    /// Every plugin that any point names, each once.
    pub plugins: Vec<Box<dyn Plugin>>,
    /// What is blamed for nodes that extenders refuse.
    pub extender: PluginIx,
    /// PreEnqueue, in order.
    pub pre_enqueue: Vec<PluginIx>,
    /// The one QueueSort plugin.
    pub queue_sort: PluginIx,
    /// PreFilter and Filter, in the order of Filter; a plugin that only filters early comes last.
    pub filter: Vec<PluginIx>,
    /// PostFilter, in order.
    pub post_filter: Vec<PluginIx>,
    /// Score with weights, in order.
    pub score: Vec<(PluginIx, i64)>,
    /// Reserve, in order.
    pub reserve: Vec<PluginIx>,
    /// Permit, in order.
    pub permit: Vec<PluginIx>,
    /// PreBind, in order.
    pub pre_bind: Vec<PluginIx>,
    /// Bind, in order.
    pub bind: Vec<PluginIx>,
    /// PostBind, in order.
    pub post_bind: Vec<PluginIx>,
}

/// Why profiles cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// A name that neither the registry nor the program knows.
    #[error("profile {profile:?}: plugin {plugin:?} is not known; `isobar config check` lists the plugins there are")]
    UnknownPlugin {
        /// The profile.
        profile: String,
        /// The plugin.
        plugin: String,
    },
    /// More plugins than a set of rejectors can tell apart.
    #[error("profile {profile:?} has {count} plugins, at most {PLUGINS_PER_PROFILE_MAX} are possible")]
    TooManyPlugins {
        /// The profile.
        profile: String,
        /// How many.
        count: usize,
    },
    /// No queue sort or no bind plugin.
    #[error("profile {profile:?} has no {point} plugin; enable PrioritySort and DefaultBinder or plugins in their place")]
    Missing {
        /// The profile.
        profile: String,
        /// `queueSort` or `bind`.
        point: &'static str,
    },
}

/// Makes an out-of-tree plugin from its raw arguments.
pub type PluginFactory = Arc<dyn Fn(Option<&serde_json::Value>, &mut Interner) -> Box<dyn Plugin> + Send + Sync>;

/// Plugins that the embedding program registered, by name.
#[derive(Clone, Default)]
pub struct OutOfTree(Vec<(&'static str, PluginFactory)>);

impl OutOfTree {
    /// Registers a plugin; profiles name it like any other.
    pub fn register(&mut self, name: &'static str, factory: PluginFactory) {
        self.0.push((name, factory));
    }

    /// The names registered.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.iter().map(|(name, _)| *name)
    }

    fn build(&self, name: &str, spec: &ProfileSpec, symbols: &mut Interner) -> Option<Box<dyn Plugin>> {
        let (_, factory) = self.0.iter().find(|(known, _)| *known == name)?;
        Some(factory(spec.args.out_of_tree.get(name), symbols))
    }
}

/// All profiles in force.
pub struct Profiles(Vec<Profile>);

impl Profiles {
    /// Builds the plugins of every profile.
    pub fn build(specs: &[ProfileSpec], out_of_tree: &OutOfTree, seed: u64, symbols: &mut Interner) -> Result<Self, ProfileError> {
        specs.iter().map(|spec| Profile::build(spec, out_of_tree, seed, symbols)).collect::<Result<_, _>>().map(Self)
    }

    /// The profile that serves a scheduler name.
    pub fn named(&self, name: Sym) -> Option<ProfileIx> {
        let at = self.0.iter().position(|profile| profile.name_sym == name)?;
        u16::try_from(at).ok().map(ProfileIx)
    }

    /// A profile.
    pub fn get(&self, ix: ProfileIx) -> Option<&Profile> {
        self.0.get(ix.at())
    }

    /// A profile, to call plugins that keep state.
    pub fn get_mut(&mut self, ix: ProfileIx) -> Option<&mut Profile> {
        self.0.get_mut(ix.at())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Profile> {
        self.0.iter()
    }
}

impl Profile {
    fn build(spec: &ProfileSpec, out_of_tree: &OutOfTree, seed: u64, symbols: &mut Interner) -> Result<Self, ProfileError> {
        let points = &spec.plugins;
        let mut builder = Builder { spec, out_of_tree, symbols, plugins: Vec::new() };
        let pre_enqueue = builder.all(&points.pre_enqueue)?;
        let queue_sort = builder.all(&points.queue_sort)?;
        let mut filter = builder.all(&points.filter)?;
        filter.extend(builder.all(&points.pre_filter)?);
        // Whatever a file disables: a cluster that takes no pods must never get one.
        filter.push(builder.one("ClusterFit")?);
        let mut seen = Vec::new();
        filter.retain(|plugin| {
            !seen.contains(plugin) && {
                seen.push(*plugin);
                true
            }
        });
        let post_filter = builder.all(&points.post_filter)?;
        let score =
            points.score.iter().map(|plugin| Ok((builder.one(plugin.name)?, i64::from(plugin.weight)))).collect::<Result<_, _>>()?;
        let reserve = builder.all(&points.reserve)?;
        let permit = builder.all(&points.permit)?;
        let pre_bind = builder.all(&points.pre_bind)?;
        let bind = builder.all(&points.bind)?;
        let post_bind = builder.all(&points.post_bind)?;
        let mut plugins = builder.plugins;
        let extender = plugins.len();
        plugins.push(Box::new(plugins::Extender));
        let profile = || spec.scheduler_name.clone();
        if plugins.len() > PLUGINS_PER_PROFILE_MAX {
            return Err(ProfileError::TooManyPlugins { profile: profile(), count: plugins.len() });
        }
        let queue_sort = queue_sort.into_iter().find(|plugin| plugins[*plugin].queue_sort().is_some());
        let queue_sort = queue_sort.ok_or_else(|| ProfileError::Missing { profile: profile(), point: "queueSort" })?;
        if !bind.iter().any(|plugin| plugins[*plugin].bind().is_some()) {
            return Err(ProfileError::Missing { profile: profile(), point: "bind" });
        }
        Ok(Self {
            name: spec.scheduler_name.as_str().into(),
            name_sym: symbols.pin(&spec.scheduler_name),
            tie_break: spec.tie_break,
            seed: spec.seed.unwrap_or(seed),
            percentage_of_nodes_to_score: spec.percentage_of_nodes_to_score.filter(|percent| (1..100).contains(percent)),
            plugins,
            extender,
            pre_enqueue,
            queue_sort,
            filter,
            post_filter,
            score,
            reserve,
            permit,
            pre_bind,
            bind,
            post_bind,
        })
    }

    /// The name of a plugin.
    pub fn plugin_name(&self, plugin: PluginIx) -> &'static str {
        self.plugins[plugin].name()
    }
}

struct Builder<'a> {
    spec: &'a ProfileSpec,
    out_of_tree: &'a OutOfTree,
    symbols: &'a mut Interner,
    plugins: Vec<Box<dyn Plugin>>,
}

impl Builder<'_> {
    fn all(&mut self, names: &[&'static str]) -> Result<Vec<PluginIx>, ProfileError> {
        names.iter().map(|name| self.one(name)).collect()
    }

    fn one(&mut self, name: &str) -> Result<PluginIx, ProfileError> {
        if let Some(at) = self.plugins.iter().position(|plugin| plugin.name() == name) {
            return Ok(at);
        }
        let built = plugins::build(name, &self.spec.args, self.symbols).or_else(|| self.out_of_tree.build(name, self.spec, self.symbols));
        let unknown = || ProfileError::UnknownPlugin { profile: self.spec.scheduler_name.clone(), plugin: name.to_owned() };
        self.plugins.push(built.ok_or_else(unknown)?);
        Ok(self.plugins.len() - 1)
    }
}
