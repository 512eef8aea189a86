//! Remembers the nonces of one key, so that no request is taken twice.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

/// Nonces seen under one key. A nonce is remembered for at least `window`
/// seconds, which must be twice the allowed skew: a request signed ahead of
/// our clock stays valid that long. Two generations make forgetting free.
pub(crate) struct Nonces {
    hash: RandomState,
    seen: [HashSet<u64, BuildHasherDefault<AsIs>>; 2],
    turned: i64,
    window: i64,
    most: usize,
}

/// What became of a nonce.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Fresh,
    Seen,
    Full,
}

impl Nonces {
    pub(crate) fn new(window: i64, most: usize, now: i64) -> Self {
        Self { hash: RandomState::new(), seen: Default::default(), turned: now, window, most }
    }

    /// Records a nonce. Only to be called once the MAC has been found right.
    pub(crate) fn insert(&mut self, nonce: &str, now: i64) -> Fate {
        if now - self.turned > self.window {
            self.seen.swap(0, 1);
            self.seen[0] = HashSet::default();
            if now - self.turned > 2 * self.window {
                self.seen[1] = HashSet::default();
            }
            self.turned = now;
        }
        // A keyed 64-bit hash stands for the nonce: two distinct nonces meet
        // once in 2^64/n requests, and the later one is merely refused.
        let hash = self.hash.hash_one(nonce);
        if self.seen[1].contains(&hash) {
            return Fate::Seen;
        }
        if self.seen[0].len() + self.seen[1].len() >= self.most {
            return if self.seen[0].contains(&hash) { Fate::Seen } else { Fate::Full };
        }
        if self.seen[0].insert(hash) { Fate::Fresh } else { Fate::Seen }
    }
}

/// The value is a hash already.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_for_the_window_and_refuses_when_full() {
        let mut nonces = Nonces::new(600, 3, 0);
        assert_eq!(nonces.insert("a", 0), Fate::Fresh);
        assert_eq!(nonces.insert("a", 600), Fate::Seen);
        assert_eq!(nonces.insert("b", 600), Fate::Fresh);
        // "b" has just turned into the older generation and is still known.
        assert_eq!(nonces.insert("b", 1200), Fate::Seen);
        assert_eq!(nonces.insert("c", 1200), Fate::Fresh);
        assert_eq!(nonces.insert("d", 1200), Fate::Full);
        assert_eq!(nonces.insert("c", 1200), Fate::Seen);
        assert_eq!(nonces.insert("a", 5000), Fate::Fresh);
    }
}
