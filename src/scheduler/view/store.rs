//! All views, bounded in bytes: a profile and a class in, an up-to-date view out.

use rustc_hash::FxHashMap;

use super::{ClassView, Effort, Spare};
use crate::{
    model::{
        class::PodClass,
        ids::{ClassIx, ProfileIx},
    },
    scheduler::{nodes::Nodes, profiles::Profile},
};

/// Views by profile and class; the least recently used go when the bound is reached, which only costs speed.
#[derive(Default)]
pub struct Views {
    kept: FxHashMap<(ProfileIx, ClassIx), Kept>,
    bytes: usize,
    bytes_max: usize,
    clock: u64,
    /// Memory of the last view that went.
    spare: Spare,
}

struct Kept {
    view: ClassView,
    bytes: usize,
    used: u64,
}

impl Views {
    /// No views yet.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The view of a class, brought up to date.
    pub fn up_to_date(
        &mut self,
        key: (ProfileIx, ClassIx),
        profile: &Profile,
        class: &PodClass,
        nodes: &Nodes,
    ) -> (&mut ClassView, Effort) {
        self.clock += 1;
        if self.kept.get(&key).is_none_or(|kept| kept.view.outdated(nodes)) {
            self.forget(key);
            self.make_room();
            let view = ClassView::with(std::mem::take(&mut self.spare), profile, class, nodes);
            self.kept.insert(key, Kept { view, bytes: 0, used: self.clock });
            return (self.account(key), Effort { nodes: nodes.slots(), from_scratch: true });
        }
        let clock = self.clock;
        let effort = self.kept.get_mut(&key).map(|kept| {
            kept.used = clock;
            kept.view.catch_up(nodes)
        });
        (self.account(key), effort.unwrap_or_default())
    }

    /// Drops a view.
    pub fn forget(&mut self, key: (ProfileIx, ClassIx)) {
        if let Some(kept) = self.kept.remove(&key) {
            self.bytes -= kept.bytes;
            self.spare = kept.view.into_spare();
        }
    }

    /// Drops the views of a class that is gone: its index will mean another one.
    pub fn forget_class(&mut self, class: ClassIx, profiles: usize) {
        for profile in 0..u16::try_from(profiles).unwrap_or(u16::MAX) {
            self.forget((ProfileIx(profile), class));
        }
    }

    /// Drops everything: the profiles have changed.
    pub fn clear(&mut self) {
        self.kept.clear();
        self.bytes = 0;
    }

    #[allow(clippy::expect_used)] // both callers have just put the view there
    fn account(&mut self, key: (ProfileIx, ClassIx)) -> &mut ClassView {
        let kept = self.kept.get_mut(&key).expect("the view was put there by the caller");
        let bytes = kept.view.bytes();
        self.bytes = self.bytes - kept.bytes + bytes;
        kept.bytes = bytes;
        &mut kept.view
    }

    /// Gives up the least recently used views until a quarter of the bound is free.
    fn make_room(&mut self) {
        if self.bytes <= self.bytes_max {
            return;
        }
        let mut by_age: Vec<(u64, (ProfileIx, ClassIx))> = self.kept.iter().map(|(key, kept)| (kept.used, *key)).collect();
        by_age.sort_unstable();
        for (_, key) in by_age {
            if self.bytes <= self.bytes_max / 4 * 3 {
                return;
            }
            self.forget(key);
        }
    }
}
