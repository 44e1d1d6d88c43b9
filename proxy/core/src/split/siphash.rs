//! SipHash-2-4 (Aumasson and Bernstein, 2012): strong enough that nobody's choice of keys moves the shares, the same on every
//! machine and in every version, and quick for what is short. The standard library has it too, but promises no such thing.

/// The hash of `bytes` under a key of 128 bits.
pub(super) fn siphash([first, second]: [u64; 2], bytes: &[u8]) -> u64 {
    let mut state = [
        first ^ 0x736f_6d65_7073_6575,
        second ^ 0x646f_7261_6e64_6f6d,
        first ^ 0x6c79_6765_6e65_7261,
        second ^ 0x7465_6462_7974_6573,
    ];
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        take(&mut state, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    // Only the lowest byte of the length counts.
    last[7] = bytes.len() as u8;
    take(&mut state, u64::from_le_bytes(last));
    state[2] ^= 0xff;
    for _ in 0..4 {
        round(&mut state);
    }
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

fn take(state: &mut [u64; 4], word: u64) {
    state[3] ^= word;
    round(state);
    round(state);
    state[0] ^= word;
}

fn round([a, b, c, d]: &mut [u64; 4]) {
    *a = a.wrapping_add(*b);
    *b = b.rotate_left(13) ^ *a;
    *a = a.rotate_left(32);
    *c = c.wrapping_add(*d);
    *d = d.rotate_left(16) ^ *c;
    *a = a.wrapping_add(*d);
    *d = d.rotate_left(21) ^ *a;
    *c = c.wrapping_add(*b);
    *b = b.rotate_left(17) ^ *c;
    *c = c.rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_example_of_the_paper() {
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let message: Vec<u8> = (0..15).collect();
        assert_eq!(siphash(key, &message), 0xa129_ca61_49be_45e5);
    }

    #[test]
    #[allow(
        deprecated,
        reason = "the standard library has another one of the same"
    )]
    fn it_is_the_standard_librarys_for_every_length() {
        use std::hash::{Hasher, SipHasher};
        let bytes: Vec<u8> = (0..=255).cycle().take(600).collect();
        for length in 0..=bytes.len() {
            let key = [length as u64, u64::MAX / 3];
            let mut theirs = SipHasher::new_with_keys(key[0], key[1]);
            theirs.write(&bytes[..length]);
            assert_eq!(siphash(key, &bytes[..length]), theirs.finish(), "{length}");
        }
    }
}
