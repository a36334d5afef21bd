//! A table of strings seen in labels, taints, resource and image names: text in, a small integer out.
//!
//! Ten thousand nodes carry the same twenty label keys; comparing and storing integers instead of strings makes a node record a tenth of the
//! size. Symbols are given back by mark and sweep ([`Interner::sweep`]), as host names and template hashes come and go for ever.

use std::sync::Arc;

use rustc_hash::FxHashMap;

/// An interned string. Equal symbols of one table mean equal text; the order of symbols means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sym(u32);

impl Sym {
    /// The empty string, the same in every table.
    pub const EMPTY: Self = Self(0);

    fn at(self) -> usize {
        self.0 as usize
    }
}

/// The table. One per engine; never shared between threads.
#[derive(Debug)]
pub struct Interner {
    texts: Vec<Arc<str>>,
    symbols: FxHashMap<Arc<str>, Sym>,
    free: Vec<Sym>,
    /// Strings from the configuration: few, and held by plugins that no sweep walks.
    pinned: Vec<Sym>,
    /// How many strings were alive after the last sweep; the next is due when the table has doubled.
    alive_after_sweep: usize,
}

/// Below this many strings a sweep is not worth its walk over all records.
const SWEEP_MIN_STRINGS: usize = 4096;

impl Default for Interner {
    fn default() -> Self {
        let empty: Arc<str> = "".into();
        Self {
            texts: vec![empty.clone()],
            symbols: [(empty, Sym::EMPTY)].into_iter().collect(),
            free: Vec::new(),
            pinned: Vec::new(),
            alive_after_sweep: 0,
        }
    }
}

impl Interner {
    /// The symbol of a text, made if it is new.
    pub fn intern(&mut self, text: &str) -> Sym {
        if let Some(&sym) = self.symbols.get(text) {
            return sym;
        }
        let owned: Arc<str> = text.into();
        let sym = if let Some(sym) = self.free.pop() {
            self.texts[sym.at()] = owned.clone();
            sym
        } else {
            // 2^32 distinct strings do not fit into memory, so the cast cannot wrap.
            let sym = Sym(u32::try_from(self.texts.len()).unwrap_or(u32::MAX));
            self.texts.push(owned.clone());
            sym
        };
        self.symbols.insert(owned, sym);
        sym
    }

    /// As [`Self::intern`], and never swept: for names that the configuration gives to plugins.
    pub fn pin(&mut self, text: &str) -> Sym {
        let sym = self.intern(text);
        if !self.pinned.contains(&sym) {
            self.pinned.push(sym);
        }
        sym
    }

    /// The symbol of a text if any record may hold it. What nobody has interned matches nothing.
    pub fn get(&self, text: &str) -> Option<Sym> {
        self.symbols.get(text).copied()
    }

    /// The text of a symbol.
    pub fn text(&self, sym: Sym) -> &str {
        self.texts.get(sym.at()).map_or("", AsRef::as_ref)
    }

    /// How many distinct strings are held.
    pub fn len(&self) -> usize {
        self.symbols.len()
    }

    /// Whether only the empty string is held.
    pub fn is_empty(&self) -> bool {
        self.len() <= 1
    }

    /// Whether enough strings came since the last sweep to make another worth its while.
    pub fn sweep_is_due(&self) -> bool {
        self.len() > SWEEP_MIN_STRINGS.max(2 * self.alive_after_sweep)
    }

    /// Gives back every symbol that `mark_all` does not report alive. The caller walks all its records.
    pub fn sweep(&mut self, mark_all: impl FnOnce(&mut dyn FnMut(Sym))) {
        let mut alive = vec![false; self.texts.len()];
        alive[Sym::EMPTY.at()] = true;
        self.pinned.iter().for_each(|sym| alive[sym.at()] = true);
        mark_all(&mut |sym| {
            if let Some(slot) = alive.get_mut(sym.at()) {
                *slot = true;
            }
        });
        self.symbols.retain(|_, sym| alive[sym.at()]);
        self.free.clear();
        for (at, alive) in alive.iter().enumerate().rev() {
            if !alive {
                self.texts[at] = self.texts[0].clone();
                self.free.push(Sym(u32::try_from(at).unwrap_or(u32::MAX)));
            }
        }
        self.alive_after_sweep = self.symbols.len();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Intern(u8),
        Pin(u8),
        /// Somebody lets a text go.
        Drop(u8),
        Sweep,
    }

    proptest! {
        #[test]
        fn live_symbols_keep_their_text(steps in prop::collection::vec(
            prop_oneof![
                6 => (0..24_u8).prop_map(Step::Intern),
                1 => (0..24_u8).prop_map(Step::Pin),
                4 => (0..24_u8).prop_map(Step::Drop),
                2 => Just(Step::Sweep),
            ],
            0..120,
        )) {
            let mut table = Interner::default();
            let mut held: BTreeMap<u8, Sym> = BTreeMap::new();
            let mut pinned: BTreeMap<u8, Sym> = BTreeMap::new();
            let text = |number: u8| format!("text-{number}");
            for step in steps {
                match step {
                    Step::Intern(number) => {
                        let sym = table.intern(&text(number));
                        let before = held.insert(number, sym).or(pinned.get(&number).copied());
                        prop_assert!(before.is_none_or(|before| before == sym), "one text, one symbol");
                    }
                    Step::Pin(number) => drop(pinned.insert(number, table.pin(&text(number)))),
                    Step::Drop(number) => drop(held.remove(&number)),
                    Step::Sweep => {
                        table.sweep(|mark| held.values().for_each(|sym| mark(*sym)));
                        let alive: BTreeMap<_, _> = held.iter().chain(&pinned).collect();
                        prop_assert_eq!(table.len(), alive.len() + 1, "the empty string and those that somebody holds");
                    }
                }
                for (number, sym) in held.iter().chain(&pinned) {
                    prop_assert_eq!(table.text(*sym), text(*number));
                    prop_assert_eq!(table.get(&text(*number)), Some(*sym));
                }
                prop_assert_eq!(table.text(Sym::EMPTY), "");
                let mut symbols: Vec<u32> = held.iter().chain(&pinned).collect::<BTreeMap<_, _>>().values().map(|sym| sym.0).collect();
                symbols.sort_unstable();
                prop_assert!(symbols.windows(2).all(|pair| pair[0] != pair[1]), "two texts, two symbols");
            }
            // What was swept is used again before the table grows.
            prop_assert!(table.texts.len() <= 25);
        }
    }

    #[test]
    fn equal_texts_share_a_symbol_and_swept_ones_are_reused() {
        let mut table = Interner::default();
        let (zone, host) = (table.intern("zone"), table.intern("host-1"));
        assert_eq!(table.intern("zone"), zone);
        assert_eq!(table.intern(""), Sym::EMPTY);
        table.sweep(|mark| mark(zone));
        assert_eq!((table.get("host-1"), table.text(zone)), (None, "zone"));
        assert_eq!(table.intern("host-2"), host, "a freed symbol is reused");
        assert_eq!(table.text(host), "host-2");
    }
}
