//! Which platforms nodes have and images are made for. In: nodes that come and go, what a registry or a kubelet said. Out: whether an image runs on a
//! platform, and which images somebody should find out about.
//!
//! Images are asked about once, at the first pod that needs them, and again when a pod comes long after the last answer; the old answer holds meanwhile.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::model::{
    ids::ClusterId,
    image::Platforms,
    intern::{Interner, Sym},
    node::NodeRecord,
    time::{DurationMs, Timestamp},
};

/// Pods wait for an answer at most this long; then it counts as unknown.
const ANSWER_TIMEOUT: DurationMs = DurationMs::from_secs(15);
/// An answer is asked for again after this long: a tag may have moved.
const FRESH_FOR: DurationMs = DurationMs::from_secs(600);
/// As [`FRESH_FOR`], where the answer was that it cannot be found out.
const UNKNOWN_FOR: DurationMs = DurationMs::from_secs(60);
/// Images that are kept whether a pod needs them or not, so that a sweep is rare.
const IMAGES_MIN: usize = 1024;

/// Operating system and architecture of nodes.
pub type Platform = (Sym, Sym);

/// See the module.
#[derive(Debug, Default)]
pub struct PlatformTable {
    /// Platforms of present nodes: how many there are, and how many of them at home. A handful.
    present: Vec<(Platform, u32, u32)>,
    images: FxHashMap<Sym, Image>,
    version: u64,
    /// How many images were kept by the last sweep.
    kept: usize,
}

#[derive(Debug)]
struct Image {
    /// When it was asked about, or told.
    since: Timestamp,
    asked: bool,
    answer: Answer,
    /// Platforms on which a kubelet found no match, whatever was answered.
    lacks: SmallVec<[Box<str>; 1]>,
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Awaited,
    Known(Vec<Box<str>>),
    Unknown,
}

/// Whether an image runs on a platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// It does, or must be taken to.
    Runs,
    /// Not found out, and no home node has the platform.
    Unknown,
    /// It does not.
    Lacks,
    /// To be found out.
    Awaited,
}

/// `linux/arm64`.
pub fn text(platform: Platform, symbols: &Interner) -> String {
    format!("{}/{}", symbols.text(platform.0), symbols.text(platform.1))
}

fn of(node: &NodeRecord) -> Platform {
    (node.operating_system, node.architecture)
}

impl PlatformTable {
    /// A node is present.
    pub fn count(&mut self, node: &NodeRecord) {
        let home = u32::from(node.cluster == ClusterId::HOME);
        if let Some((_, nodes, at_home)) = self.present.iter_mut().find(|(platform, ..)| *platform == of(node)) {
            (*nodes, *at_home) = (*nodes + 1, *at_home + home);
            self.version += u64::from(home == 1 && *at_home == 1);
        } else {
            self.present.push((of(node), 1, home));
            self.version += 1;
        }
    }

    /// A node is not present any more.
    pub fn uncount(&mut self, node: &NodeRecord) {
        let home = u32::from(node.cluster == ClusterId::HOME);
        let Some(at) = self.present.iter().position(|(platform, ..)| *platform == of(node)) else { return };
        let (_, nodes, at_home) = &mut self.present[at];
        (*nodes, *at_home) = (nodes.saturating_sub(1), at_home.saturating_sub(home));
        self.version += u64::from(home == 1 && *at_home == 0);
        if *nodes == 0 {
            self.present.swap_remove(at);
            self.version += 1;
        }
    }

    /// Platforms of present nodes, those alone at home if `home_only`.
    pub fn present(&self, home_only: bool) -> impl Iterator<Item = Platform> + '_ {
        self.present.iter().filter(move |(_, _, at_home)| !home_only || *at_home > 0).map(|(platform, ..)| *platform)
    }

    /// Number of the last change that can change an answer.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether an image runs on a platform. One of which nothing can be found out is taken to run on the platforms of home, and a node that does not say
    /// its platform to run everything.
    pub fn fit(&self, image: Sym, platform: Platform, symbols: &Interner) -> Fit {
        if platform.0 == Sym::EMPTY || platform.1 == Sym::EMPTY {
            return Fit::Runs;
        }
        let Some(known) = self.images.get(&image) else { return Fit::Awaited };
        let is =
            |name: &str| name.split_once('/').is_some_and(|(os, arch)| os == symbols.text(platform.0) && arch == symbols.text(platform.1));
        if known.lacks.iter().any(|name| is(name)) {
            return Fit::Lacks;
        }
        match &known.answer {
            Answer::Awaited => Fit::Awaited,
            Answer::Known(list) if list.iter().any(|name| is(name)) => Fit::Runs,
            Answer::Known(_) => Fit::Lacks,
            Answer::Unknown if self.present(true).all(|at_home| at_home != platform) && self.present(true).next().is_some() => Fit::Unknown,
            Answer::Unknown => Fit::Runs,
        }
    }

    /// Those of the images that should be asked about now; they count as asked.
    pub fn ask(&mut self, now: Timestamp, images: &[Sym]) -> Vec<Sym> {
        let mut asked = Vec::new();
        for &name in images {
            let image = self.images.entry(name).or_insert_with(|| {
                self.version += 1;
                Image { since: Timestamp(0), asked: false, answer: Answer::Awaited, lacks: SmallVec::new() }
            });
            let age = now.since(image.since);
            let due = match image.answer {
                Answer::Awaited => true,
                Answer::Known(_) => age >= FRESH_FOR,
                Answer::Unknown => age >= UNKNOWN_FOR,
            };
            if due && !image.asked {
                (image.asked, image.since) = (true, now);
                asked.push(name);
            }
        }
        asked
    }

    /// Somebody found out. True if that is news. What nobody asked about is not taken in: no pod needs it.
    pub fn told(&mut self, now: Timestamp, image: Sym, platforms: Platforms) -> bool {
        let Some(image) = self.images.get_mut(&image) else { return false };
        let answer = match platforms {
            Platforms::Lacks(platform) => {
                let is_news = !image.lacks.contains(&platform);
                if is_news {
                    image.lacks.push(platform);
                    self.version += 1;
                }
                return is_news;
            }
            Platforms::Known(list) => Answer::Known(list),
            Platforms::Unknown(_) => Answer::Unknown,
        };
        (image.asked, image.since) = (false, now);
        // Asked again in vain: what was known still is.
        if answer == Answer::Unknown && matches!(image.answer, Answer::Known(_)) {
            return false;
        }
        let is_news = image.answer != answer;
        if is_news {
            if matches!(image.answer, Answer::Known(_)) {
                image.lacks.clear();
            }
            image.answer = answer;
            self.version += 1;
        }
        is_news
    }

    /// Images whose answer is overdue; they count as unknown from now on.
    pub fn take_overdue(&mut self, now: Timestamp) -> Vec<Sym> {
        let mut overdue = Vec::new();
        for (name, image) in &mut self.images {
            if image.asked && now.since(image.since) >= ANSWER_TIMEOUT {
                (image.asked, image.since) = (false, now);
                if image.answer == Answer::Awaited {
                    image.answer = Answer::Unknown;
                    overdue.push(*name);
                }
            }
        }
        self.version += overdue.len() as u64;
        overdue.sort_unstable();
        overdue
    }

    /// When the next answer is overdue.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.images.values().filter(|image| image.asked).map(|image| image.since + ANSWER_TIMEOUT).min()
    }

    /// Whether images that no pod needs any more should be dropped.
    pub fn sweep_is_due(&self) -> bool {
        self.images.len() > IMAGES_MIN.max(2 * self.kept)
    }

    /// Drops all images but these.
    pub fn retain(&mut self, needed: impl Fn(Sym) -> bool) {
        self.images.retain(|image, _| needed(*image));
        self.kept = self.images.len();
    }

    /// All symbols held, for the sweep of symbols; those of present platforms are their nodes'.
    pub fn symbols(&self, mark: &mut dyn FnMut(Sym)) {
        self.images.keys().for_each(|image| mark(*image));
    }

    /// Compares the counts of platforms with the nodes. Empty when all is well.
    pub fn consistency_check<'a>(&self, present: impl Iterator<Item = &'a NodeRecord>) -> Vec<String> {
        let mut again = Self::default();
        present.for_each(|node| again.count(node));
        let sorted = |table: &Self| {
            let mut list = table.present.clone();
            list.sort_unstable();
            list
        };
        if sorted(self) == sorted(&again) { Vec::new() } else { vec!["the counts of platforms are wrong".into()] }
    }
}
