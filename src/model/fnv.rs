//! FNV-1a. In: bytes. Out: a number that is the same in every run and every release; named and simple, so that it keeps its meaning.

/// The hash's offset basis, 64 bits.
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
/// The hash's prime, 64 bits.
const PRIME: u64 = 0x0100_0000_01b3;

/// The hash of bytes; seed 0 is plain FNV-1a.
pub fn fnv1a(seed: u64, bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(BASIS ^ seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::fnv1a;

    #[test]
    fn gives_the_published_values() {
        for (text, want) in [("", 0xcbf2_9ce4_8422_2325), ("a", 0xaf63_dc4c_8601_ec8c), ("foobar", 0x8594_4171_f739_67e8)] {
            assert_eq!(fnv1a(0, text.bytes()), want, "{text}");
        }
    }
}
