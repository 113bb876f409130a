//! Which VIPs get which serials.

use super::*;
use crate::model::config::HashMode;

/// A changed VIP and a new one get different serials, even if serials start over between the two.
#[test]
fn serials_are_handed_out_once() {
    let vip =
        |n| Vip { address: Ipv4Addr::new(10, 200, 1, n).into(), port: 80, protocol: Protocol::Tcp };
    let spec = |hash| VipSpec { hash, ..ipip() };
    let mut maps = Maps::default();
    let table = |vips: &[(u8, HashMode)]| Table {
        vips: vips.iter().map(|(n, hash)| (vip(*n), spec(*hash))).collect(),
        ..Table::default()
    };
    go(&mut maps, &table(&[(1, HashMode::FiveTuple), (2, HashMode::FiveTuple)]), None);
    let wanted = table(&[
        (1, HashMode::DestinationPort),
        (2, HashMode::FiveTuple),
        (3, HashMode::FiveTuple),
    ]);
    for (next_serial, one, three) in
        [(3, 3, 4), (consts::MAX_SERIAL, consts::MAX_SERIAL, 3), (consts::MAX_SERIAL + 1, 3, 4)]
    {
        let mut maps = Maps { next_serial, ..maps.clone() };
        let writes = diff(&maps.running(), &wanted).writes;
        for write in &writes {
            maps.write(write);
        }
        let serials: Vec<_> = maps.running().vips.values().map(|vip| vip.serial).collect();
        assert_eq!(serials, [one, 2, three]);
        assert_eq!(maps.next_serial, three + 1);
        let kept = writes.iter().find_map(|write| match write {
            Write::ForgetVipsBut(kept) => Some(kept.clone()),
            _ => None,
        });
        assert!(kept.is_none_or(|kept| kept.is_superset(&[1, 2].into())));
    }
}
