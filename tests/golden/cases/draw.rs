//! Random choices that a seed repeats for ever. In: a seed, a name and a number. Out: choices.

/// `SplitMix64`: written out here, as no release of a crate may change what a seed means.
pub struct Draw(u64);

impl Draw {
    /// The stream of one case: neither the other families nor the other cases of its own change it.
    pub fn new(seed: u64, family: &str, number: u64) -> Self {
        let named = family.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let mut draw = Self(seed ^ named.rotate_left(17));
        let seed = draw.next();
        Self(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `low..=high`.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        let count = u128::from(high.abs_diff(low)) + 1;
        let step = (u128::from(self.next()) * count) >> 64;
        low + i64::try_from(step).expect("a step lies between the two")
    }

    /// An index of a list of so many.
    pub fn index(&mut self, count: usize) -> usize {
        let last = i64::try_from(count).expect("a list") - 1;
        usize::try_from(self.between(0, last)).expect("not negative")
    }

    /// True in so many of a hundred cases.
    pub fn chance(&mut self, percent: i64) -> bool {
        self.between(0, 99) < percent
    }

    /// One of the list.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }

    /// Something in so many of a hundred cases.
    pub fn maybe<T>(&mut self, percent: i64, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.chance(percent).then(|| make(self))
    }

    /// Between `low` and `high` things.
    pub fn list<T>(&mut self, low: i64, high: i64, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.between(low, high);
        (0..count).map(|_| make(self)).collect()
    }

    /// Each of the list in so many of a hundred cases, in the list's order.
    pub fn some<T: Copy>(&mut self, percent: i64, from: &[T]) -> Vec<T> {
        from.iter().copied().filter(|_| self.chance(percent)).collect()
    }
}
