//! Random numbers that are the same on every platform and in every version of windrow: whole
//! numbers only, from published algorithms, so a seed names a data set for good.

/// xoshiro256++ 1.0 by David Blackman and Sebastiano Vigna (<https://prng.di.unimi.it>, public
/// domain), its state filled by their splitmix64 as they advise.
#[derive(Debug, Clone)]
pub(super) struct Random {
    state: [u64; 4],
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        let mut x = seed;
        let state = std::array::from_fn(|_| {
            x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        });
        Random { state }
    }

    #[inline]
    pub(super) fn next(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// 0 ≤ result < `n`; 0 when `n` is 0. Multiply and shift (Lemire 2019) without its rejection
    /// step: the bias is below `n` / 2⁶⁴.
    #[inline]
    pub(super) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    /// True in `share` of the cases. Always draws, so that a share of 0 leaves the rest of the
    /// data as it is.
    #[inline]
    pub(super) fn chance(&mut self, share: Share) -> bool {
        (self.next() >> 32) < share.0
    }
}

/// A probability, in units of 2⁻³².
#[derive(Debug, Clone, Copy)]
pub(super) struct Share(u64);

impl Share {
    /// Values outside 0..=1 (and NaN) are taken as the nearer end.
    pub(super) fn new(share: f64) -> Self {
        Share((share.clamp(0.0, 1.0) * 4_294_967_296.0) as u64)
    }
}

/// Draws 0..n with weights 1, 1/2, 1/3, … (Zipf's law with exponent 1) in constant time: the
/// alias method in Vose's form, in whole numbers.
#[derive(Debug, Clone)]
pub(super) struct Zipf {
    /// Per column: a draw below `.0` (of 2³²) stays in the column, another goes to `.1`.
    columns: Vec<(u32, u32)>,
}

impl Zipf {
    /// `n` is at least 1 and at most 2³¹; other values are moved there.
    pub(super) fn new(n: u64) -> Self {
        let n = n.clamp(1, 1 << 31);
        let weights: Vec<u64> = (1..=n).map(|rank| (1u64 << 32) / rank).collect();
        let total: u128 = weights.iter().map(|w| u128::from(*w)).sum();
        // Scaled so that the average column holds exactly `total`.
        let mut scaled: Vec<u128> = weights
            .iter()
            .map(|w| u128::from(*w) * u128::from(n))
            .collect();
        let (mut small, mut large): (Vec<u32>, Vec<u32>) =
            (0..n as u32).partition(|i| scaled[*i as usize] < total);
        let mut columns: Vec<(u32, u32)> = (0..n as u32).map(|i| (u32::MAX, i)).collect();
        while let (Some(less), Some(more)) = (small.pop(), large.last().copied()) {
            columns[less as usize] = (((scaled[less as usize] << 32) / total) as u32, more);
            scaled[more as usize] -= total - scaled[less as usize];
            if scaled[more as usize] < total {
                large.pop();
                small.push(more);
            }
        }
        Zipf { columns }
    }

    #[inline]
    pub(super) fn draw(&self, random: &mut Random) -> u64 {
        let x = random.next();
        let column = ((x >> 32) * self.columns.len() as u64) >> 32;
        let (limit, alias) = self.columns[column as usize];
        // The low half decides between the two, the high half has chosen the column.
        if (x as u32) < limit {
            column
        } else {
            u64::from(alias)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xoshiro_gives_the_published_numbers() {
        // First outputs of xoshiro256++ for the state {1, 2, 3, 4}.
        let mut random = Random {
            state: [1, 2, 3, 4],
        };
        let expected = [
            41943041,
            58720359,
            3588806011781223,
            3591011842654386,
            9228616714210784205,
        ];
        assert_eq!(expected.map(|_| random.next()), expected);
        // First output of splitmix64 for the seed 0 is the first word of the state.
        assert_eq!(Random::new(0).state[0], 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn zipf_follows_its_weights() {
        let (n, draws) = (50u64, 1_000_000u64);
        let zipf = Zipf::new(n);
        let mut random = Random::new(7);
        let mut counts = vec![0u64; n as usize];
        (0..draws).for_each(|_| counts[zipf.draw(&mut random) as usize] += 1);
        let harmonic: f64 = (1..=n).map(|r| 1.0 / r as f64).sum();
        for (i, count) in counts.iter().enumerate() {
            let expected = draws as f64 / harmonic / (i + 1) as f64;
            assert!(
                (*count as f64 - expected).abs() < 6.0 * expected.sqrt(),
                "rank {}: {count}, expected {expected}",
                i + 1
            );
        }
        assert_eq!(Zipf::new(1).draw(&mut random), 0);
    }

    #[test]
    fn chance_keeps_its_ends() {
        let mut random = Random::new(1);
        assert!(
            (0..1000).all(|_| !random.chance(Share::new(0.0)) && random.chance(Share::new(1.0)))
        );
    }
}
