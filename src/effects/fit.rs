//! How many flows find no room in tables of another size.

use std::collections::BTreeMap;

use crate::abi::consts;
use crate::config::TableKind;
use crate::tables::Tables;

/// Flows of a CPU's tables, IPv4 and IPv6; of the shared one without a CPU.
pub(super) type Used = BTreeMap<Option<u32>, [u64; 2]>;

/// How many flows are left without room when these tables take the place of those. An expectation: which flows meet
/// in a set is chance.
pub(super) fn without_room(running: &Tables, new: &Tables, used: &Used) -> f64 {
    let of = |cpu: u32| used.get(&Some(cpu)).copied().unwrap_or_default();
    let lost: Vec<u32> =
        running.own.keys().filter(|cpu| !new.own.contains_key(cpu)).copied().collect();
    // Those of CPUs without a table any more are shared out.
    let homeless = lost.iter().map(|cpu| of(*cpu)).fold([0, 0], |[a, b], [c, d]| [a + c, b + d]);
    let shares = new.own.len().max(1) as u64;
    let mut left = 0.0;
    for (cpu, size) in &new.own {
        let same = running.kind == new.kind && running.own.get(cpu) == Some(size);
        if same && lost.is_empty() {
            continue;
        }
        let [v4, v6] = of(*cpu);
        let [v4, v6] = [v4 + homeless[0] / shares, v6 + homeless[1] / shares];
        left += match new.kind {
            TableKind::SetAssociative => overflow(v4, *size) + overflow(v6, *size),
            TableKind::Lru => number((v4 + v6).saturating_sub(u64::from(*size))),
        };
    }
    left
}

/// How many of so many flows find their set full: of each set, what a Poisson distribution has above its ways.
fn overflow(flows: u64, sets: u32) -> f64 {
    if flows == 0 || sets == 0 {
        return number(flows);
    }
    let (ways, each) = (f64::from(consts::SET_WAYS), number(flows) / f64::from(sets));
    // Of n ways, a set with k flows keeps min(k, n).
    let (mut chance, mut kept, mut below) = ((-each).exp(), 0.0, 0.0);
    for k in 0..consts::SET_WAYS {
        let k = f64::from(k);
        kept += k * chance;
        below += chance;
        chance *= each / (k + 1.0);
    }
    kept += ways * (1.0 - below);
    (each - kept).max(0.0) * f64::from(sets)
}

#[expect(clippy::cast_precision_loss, reason = "an expectation")]
pub(super) fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(kind: TableKind, own: &[(u32, u32)]) -> Tables {
        Tables { kind, bank: 0, own: own.iter().copied().collect() }
    }

    #[test]
    fn what_fits_is_kept() {
        let sets = TableKind::SetAssociative;
        let used: Used = [(Some(0), [1000, 0]), (Some(1), [1000, 100])].into();
        let old = tables(sets, &[(0, 5000), (1, 5000)]);
        assert!(without_room(&old, &old, &used).abs() < 1e-9);
        assert!(without_room(&old, &tables(sets, &[(0, 9000), (1, 9000)]), &used) < 0.5);
        // Four for each of 10 sets, and all of the rest goes.
        let few = without_room(&old, &tables(sets, &[(0, 10), (1, 10)]), &used);
        assert!((few - (2100.0 - 3.0 * 40.0)).abs() < 1.0, "{few}");
        let lru = tables(TableKind::Lru, &[(0, 600), (1, 600)]);
        assert!((without_room(&old, &lru, &used) - 900.0).abs() < 1e-9);
        let one = tables(TableKind::Lru, &[(0, 1600)]);
        assert!((without_room(&old, &one, &used) - 500.0).abs() < 1e-9);
    }
}
