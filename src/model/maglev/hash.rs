//! The hash functions that decide which real a flow goes to.
//!
//! They are those of Katran's forwarding plane, so that l4lb and Katran choose alike. They have no other use. All
//! arithmetic wraps.
//!
//! | function | algorithm | published in |
//! | --- | --- | --- |
//! | [`jhash`], [`jhash_2words`] | Bob Jenkins' lookup3 | Linux, `include/linux/jhash.h` |
//! | [`real_hash`] | FNV-1, `SpookyHash` V2, `CityHash`'s 128-to-64 | Noll; Jenkins; Google |
//! | [`murmur`] | `MurmurHash3_x64_128` | Appleby, the `murmur3` crate |

use std::net::IpAddr;

/// Slots in a ring: a prime, the same for every VIP.
pub const RING_SIZE: u32 = 65537;

/// The initial state, before length and `initval` are added: `JHASH_INITVAL` of `jhash.h`.
const JHASH_START: u32 = 0xdead_beef;

/// jhash's `initval` for the two words of a flow: client address (or its hash) and ports.
const FLOW_SEED: u32 = 33_554_944;

/// jhash's `initval` that reduces the 16 bytes of an IPv6 client to one word.
const IPV6_CLIENT_SEED: u32 = 512;

/// FNV's 32-bit offset basis.
const FNV_BASIS: u32 = 2_166_136_261;

/// FNV's 32-bit prime.
const FNV_PRIME: u32 = 16_777_619;

/// The multiplier of `CityHash`'s 128-to-64 reduction.
const CITY_MULTIPLIER: u64 = 0x9ddf_ea08_eb38_2d69;

/// `SpookyHash`'s constant for state that no seed fills.
const SPOOKY_CONST: u64 = 0xdead_beef_dead_beef;

/// The rotations of `SpookyHash`'s `ShortMix`, in order.
const SPOOKY_MIX: [u32; 12] = [50, 52, 30, 41, 54, 48, 38, 37, 62, 34, 5, 36];

/// The rotations of `SpookyHash`'s `ShortEnd`, in order.
const SPOOKY_END: [u32; 11] = [15, 52, 26, 51, 28, 9, 47, 54, 32, 25, 63];

/// What an IPv4 address is hashed with: `AF_INET` of Linux.
const FAMILY_IPV4: u64 = 2;

/// What an IPv6 address is hashed with: `AF_INET6` of Linux.
const FAMILY_IPV6: u64 = 10;

/// The kernel's `jhash_2words`: the hash of exactly two words.
///
/// The words are values, so the result does not depend on the machine.
pub fn jhash_2words(a: u32, b: u32, initval: u32) -> u32 {
    let start = JHASH_START.wrapping_add(2 * 4).wrapping_add(initval);
    jhash_final([start.wrapping_add(a), start.wrapping_add(b), start])
}

/// The kernel's `jhash` of any number of bytes.
///
/// Words are loaded little-endian, so this is what the kernel computes on such machines; its own
/// result depends on the endianness.
pub fn jhash(bytes: &[u8], initval: u32) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "the kernel takes the length as a u32")]
    let length = bytes.len() as u32;
    let mut state = [JHASH_START.wrapping_add(length).wrapping_add(initval); 3];
    let mut rest = bytes;
    while rest.len() > 12 {
        let (block, tail) = rest.split_at(12);
        add_words(&mut state, block);
        state = jhash_mix(state);
        rest = tail;
    }
    if rest.is_empty() {
        return state[2];
    }
    add_words(&mut state, rest);
    jhash_final(state)
}

/// Adds up to twelve bytes to the three words, missing ones as zeros.
fn add_words(state: &mut [u32; 3], bytes: &[u8]) {
    for (word, chunk) in state.iter_mut().zip(bytes.chunks(4)) {
        let mut load = [0; 4];
        load[..chunk.len()].copy_from_slice(chunk);
        *word = word.wrapping_add(u32::from_le_bytes(load));
    }
}

fn jhash_mix([mut a, mut b, mut c]: [u32; 3]) -> [u32; 3] {
    for [first, second, third] in [[4, 6, 8], [16, 19, 4]] {
        a = a.wrapping_sub(c) ^ c.rotate_left(first);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(second);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(third);
        b = b.wrapping_add(a);
    }
    [a, b, c]
}

fn jhash_final([mut a, mut b, mut c]: [u32; 3]) -> u32 {
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    (c ^ b).wrapping_sub(b.rotate_left(24))
}

/// The hash of a real's address. It decides the real's slots in every ring.
///
/// It is the hash of folly's `IPAddress`, which Katran uses: `CityHash`'s 128-to-64 of the family and of FNV-1 (IPv4)
/// or `SpookyHash` V2 (IPv6) of the bytes in network order. An IPv4-mapped IPv6 address counts as IPv6.
pub fn real_hash(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(v4) => hash_128_to_64(FAMILY_IPV4, u64::from(fnv_signed(v4.octets()))),
        IpAddr::V6(v6) => {
            let [first, second] = spooky_16(v6.octets());
            hash_128_to_64(FAMILY_IPV6, hash_128_to_64(first, second))
        }
    }
}

/// `CityHash`'s `Hash128to64`.
fn hash_128_to_64(upper: u64, lower: u64) -> u64 {
    let mut a = (lower ^ upper).wrapping_mul(CITY_MULTIPLIER);
    a ^= a >> 47;
    let mut b = (upper ^ a).wrapping_mul(CITY_MULTIPLIER);
    b ^= b >> 47;
    b.wrapping_mul(CITY_MULTIPLIER)
}

/// 32-bit FNV-1 over *signed* bytes: one from 0x80 up flips the upper 24 bits too.
fn fnv_signed(bytes: [u8; 4]) -> u32 {
    bytes.into_iter().fold(FNV_BASIS, |hash, byte| {
        let extended = i32::from(byte.cast_signed()).cast_unsigned();
        hash.wrapping_mul(FNV_PRIME) ^ extended
    })
}

/// `SpookyHash` V2 of a 16-byte message with zero seeds: both halves of the hash.
fn spooky_16(message: [u8; 16]) -> [u64; 2] {
    const LENGTH: u64 = 16 << 56;
    let message = u128::from_le_bytes(message);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "takes the message apart into its two words"
    )]
    let words = [message as u64, (message >> 64) as u64];

    let mut h = [0, 0, SPOOKY_CONST.wrapping_add(words[0]), SPOOKY_CONST.wrapping_add(words[1])];
    for (step, rotation) in SPOOKY_MIX.into_iter().enumerate() {
        let [to, turned, from] = [step % 4, (step + 2) % 4, (step + 3) % 4];
        h[turned] = h[turned].rotate_left(rotation).wrapping_add(h[from]);
        h[to] ^= h[turned];
    }
    // Constants replace the last 0 to 15 bytes, of which there are none.
    h[2] = h[2].wrapping_add(SPOOKY_CONST);
    h[3] = h[3].wrapping_add(SPOOKY_CONST).wrapping_add(LENGTH);
    for (step, rotation) in SPOOKY_END.into_iter().enumerate() {
        let [turned, to] = [(step + 2) % 4, (step + 3) % 4];
        h[to] ^= h[turned];
        h[turned] = h[turned].rotate_left(rotation);
        h[to] = h[to].wrapping_add(h[turned]);
    }
    [h[0], h[1]]
}

/// The first 64 bits of `MurmurHash3_x64_128` over `a` and `b`, both laid out little-endian.
///
/// A ring places its members with it.
pub fn murmur(a: u64, b: u64, seed: u32) -> u64 {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&a.to_le_bytes());
    key[8..].copy_from_slice(&b.to_le_bytes());
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the crate puts the first half into the low bits"
    )]
    let first = murmur3::murmur3_x64_128(&mut key.as_slice(), seed)
        .map_or_else(|error| unreachable!("reading a slice failed: {error}"), |hash| hash as u64);
    first
}

/// The slot of a flow in every ring: below [`RING_SIZE`].
///
/// Ports are in host order. The family of `source`, which is that of the packet, decides how the address is mixed in;
/// that of the reals does not matter. The caller passes 0 for what a VIP leaves out of its hash.
pub fn flow_slot(source: IpAddr, source_port: u16, destination_port: u16) -> u32 {
    let [s0, s1] = source_port.to_be_bytes();
    let [d0, d1] = destination_port.to_be_bytes();
    let ports = u32::from_ne_bytes([s0, s1, d0, d1]);
    let client = match source {
        IpAddr::V4(v4) => u32::from_ne_bytes(v4.octets()),
        IpAddr::V6(v6) => jhash(&v6.octets(), IPV6_CLIENT_SEED),
    };
    jhash_2words(client, ports, FLOW_SEED) % RING_SIZE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// From `jhash.h`, compiled as C.
    #[test]
    fn jhash_is_the_kernels() {
        let bytes: Vec<u8> = (0..64_u8).map(|i| i.wrapping_mul(7).wrapping_add(129)).collect();
        for (length, hash) in [
            (0_u16, 0xdead_beef),
            (1, 0x3a21_4fd3),
            (5, 0x727d_806a),
            (12, 0x8b71_b5a9),
            (13, 0x4611_941f),
            (16, 0x08ab_d71d),
            (24, 0x5ede_b978),
            (37, 0x5949_8f7c),
        ] {
            let message = &bytes[..usize::from(length)];
            assert_eq!(jhash(message, u32::from(length) * 1000), hash, "{length} bytes");
        }
        assert_eq!(jhash_2words(0, 0, 0), 0x58c1_84bf);
        assert_eq!(jhash_2words(1, 2, 3), 0x2527_81b5);
        assert_eq!(jhash_2words(0xc0a8_0101, 0xffff_ffff, FLOW_SEED), 0x2adf_a3d9);
    }

    /// From `SpookyV2.cpp`; its author publishes the low half of the first word for this message.
    #[test]
    fn spooky_is_version_2() {
        let message = std::array::from_fn(|i| 128 + u8::try_from(i).unwrap());
        assert_eq!(spooky_16(message), [0x8d47_89b8_f274_736c, 0x571f_c8b0_6e34_f05d]);
    }

    /// From `MurmurHash3.cpp`.
    #[test]
    fn murmur_is_the_first_half() {
        for (a, b, seed, hash) in [
            (0, 0, 0, 0x4bbd_1bf2_7da9_18d6),
            (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908, 2307, 0xb30d_ec32_ac63_84b9),
            (0xdead_beef_cafe_babe, 42, 0, 0x2e8d_31a5_4ed1_7f19),
            (0xdead_beef_cafe_babe, 2_718_281_828, 2307, 0x3945_d726_9e09_cab6),
        ] {
            assert_eq!(murmur(a, b, seed), hash, "{a:#x}, {b:#x}, {seed}");
        }
    }

    /// Computed in Python, over the reference `SpookyHash`.
    #[test]
    fn reals_hash_by_family_and_with_signed_bytes() {
        assert_eq!(fnv_signed([203, 0, 113, 255]), 0xec4d_bea0);
        for (text, hash) in [
            ("10.0.0.1", 0xd671_359d_baa1_5954),
            ("203.0.113.255", 0xe4aa_321f_8073_19ac),
            ("fc00::1", 0x64e7_4a25_b986_d744),
            ("2001:db8:ffff::80", 0xf345_d3eb_2b4b_9ba1),
        ] {
            assert_eq!(real_hash(address(text)), hash, "{text}");
        }
    }

    #[test]
    fn every_part_of_a_flow_decides_its_slot() {
        let flows = [
            ("192.168.1.1", 31337, 80),
            ("192.168.1.2", 31337, 80),
            ("192.168.1.1", 31338, 80),
            ("192.168.1.1", 31337, 0),
            ("192.168.1.1", 80, 31337),
            ("fc00:2::1", 31337, 80),
            ("fc00:2::2", 31337, 80),
            ("::ffff:192.168.1.1", 31337, 80),
        ];
        let slots: Vec<u32> =
            flows.iter().map(|&(client, from, to)| flow_slot(address(client), from, to)).collect();
        let mut distinct = slots.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), flows.len(), "{slots:?}");
        assert!(slots.iter().all(|&slot| slot < RING_SIZE));
    }
}
