//! What a change of the way to the reals means for packets, in words.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::model::abi;
use crate::model::address::Vip;
use crate::model::config::Encapsulation;
use crate::model::config::SentBy;
use crate::model::vip_table::RealSpec;
use crate::model::vip_table::Table;
use crate::model::vip_table::VipSpec;

/// `local delivery`, `gue`.
fn words(way: SentBy) -> String {
    match way {
        SentBy::Local => "local delivery".to_owned(),
        way => way.to_string(),
    }
}

/// The reals of a VIP to which packets go another way than before, by both ways.
pub(crate) fn changed_ways(
    before: &VipSpec,
    after: &VipSpec,
) -> BTreeMap<(SentBy, SentBy), Vec<IpAddr>> {
    let mut changed = BTreeMap::<_, Vec<_>>::new();
    for (address, real) in &after.reals {
        let Some(old) = before.reals.get(address) else { continue };
        let from = SentBy::of(before.encapsulation, old.delivery);
        let to = SentBy::of(after.encapsulation, real.delivery);
        if from != to {
            changed.entry((from, to)).or_default().push(*address);
        }
    }
    changed
}

/// `10.0.0.1`, `2 reals`.
fn reals_in_words(reals: &[IpAddr]) -> String {
    match reals {
        [real] => real.to_string(),
        reals => format!("{} reals", reals.len()),
    }
}

/// What a change of the way to the reals does to the flows of a VIP.
pub(crate) fn of_flows(before: &VipSpec, after: &VipSpec) -> Option<String> {
    let changed = changed_ways(before, after);
    let each = changed.iter().map(|((from, to), reals)| {
        format!(
            "packets of new and established flows to {} go by {} instead of {} at once",
            reals_in_words(reals),
            words(*to),
            words(*from)
        )
    });
    let each: Vec<_> = each.collect();
    (!each.is_empty()).then(|| each.join("; "))
}

/// The interface with the smallest MTU: its name and MTU.
pub(crate) type Narrowest = Option<(String, u32)>;

/// What the reals must do for a change of the way to them, and what fits afterwards. Of VIPs that change alike, the first
/// one is named.
pub(crate) fn warnings<'a>(
    changes: impl Iterator<Item = (Vip, &'a VipSpec, &'a VipSpec)>,
    narrowest: &Narrowest,
    gue_variant: u8,
) -> Vec<String> {
    let mut alike = BTreeMap::<(SentBy, SentBy, bool), (Vip, usize)>::new();
    for (vip, before, after) in changes {
        for ((from, to), reals) in changed_ways(before, after) {
            for v6 in [false, true] {
                if reals.iter().any(|real| real.is_ipv6() == v6) {
                    alike.entry((from, to, v6)).or_insert((vip, 0)).1 += 1;
                }
            }
        }
    }
    let each = alike.into_iter().map(|((from, to, v6), (vip, vips))| {
        let more = match vips {
            1 => String::new(),
            2 => " and another VIP".to_owned(),
            more => format!(" and {} more VIPs", more - 1),
        };
        let family = if v6 { "IPv6" } else { "IPv4" };
        let needs = match to {
            SentBy::Ipip => "take off IP in IP from this balancer's sources (lbctl decap attach --from)",
            SentBy::Gue => "take off GUE from this balancer's source (lbctl decap attach --from)",
            SentBy::L2 => {
                "have the VIP on a loopback device and be on the network of the interface that packets come in by"
            }
            SentBy::Local => "be this host, which has the VIP on a loopback device",
        };
        let fits = |way: SentBy, mtu: u32| mtu.saturating_sub(way.overhead(v6, gue_variant));
        let room = match narrowest {
            Some((name, mtu)) if fits(from, *mtu) != fits(to, *mtu) => format!(
                "; with {name}'s MTU of {mtu}, packets of up to {} bytes fit, {} before",
                fits(to, *mtu),
                fits(from, *mtu)
            ),
            _ => String::new(),
        };
        format!(
            "{vip}{more}: packets to {family} reals go by {} instead of {} at once, those of established flows too: \
             the reals must {needs}, or they lose them{room}",
            words(to),
            words(from)
        )
    });
    each.collect()
}

/// Whether some packets for reals of an IP version go by GUE.
fn sends_gue(table: &Table, v6: bool) -> bool {
    let is_of = |address: &IpAddr| address.is_ipv6() == v6;
    table.vips.values().any(|vip| {
        let by_id = vip.encapsulation == Some(Encapsulation::Gue) && vip.is_routed_by_id();
        let goes = |real: &RealSpec| SentBy::of(vip.encapsulation, real.delivery) == SentBy::Gue;
        vip.reals.iter().any(|(address, real)| is_of(address) && goes(real))
            || by_id && table.server_ids.values().any(is_of)
    })
}

/// The knobs of a program that forwards until the table is written; `None`: those that are wanted will do.
///
/// The program is replaced before the table says the new ways, so packets that leave GUE then go by the old way with the
/// new knobs. Where these no longer say a source, it would be one that is nobody's. In the other order, packets that
/// begin to go by GUE would leave from such a source.
pub(crate) fn until_written(
    (running, old): (&Table, &abi::knobs),
    (wanted, new): (&Table, &abi::knobs),
) -> Option<abi::knobs> {
    let mut knobs = *new;
    let [v4, v6] = [false, true].map(|v6| sends_gue(running, v6));
    if v4 && new.source4_prefix == 0 {
        knobs.source4 = old.source4;
        knobs.source4_spread = old.source4_spread;
        knobs.source4_prefix = old.source4_prefix;
    }
    if v6 && new.source6_prefix == 0 {
        knobs.source6 = old.source6;
        knobs.source6_spread = old.source6_spread;
        knobs.source6_prefix = old.source6_prefix;
    }
    if (v4 || v6) && !sends_gue(wanted, false) && !sends_gue(wanted, true) {
        knobs.gue_port = old.gue_port;
        knobs.gue_variant = old.gue_variant;
        knobs.gue_icmp_as_katran = old.gue_icmp_as_katran;
    }
    (abi::bytes_of(&knobs) != abi::bytes_of(new)).then_some(knobs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::Config;

    fn table(packets: &str, vip: &str, reals: &str) -> Table {
        let text = format!(
            "[packets]\nencap_source_v4 = \"192.0.2.9\"\nencap_source_v6 = \"2001:db8::9\"\n{packets}\n[[vips]]\n\
             address = \"10.200.1.1\"\nport = 80\nprotocol = \"tcp\"\n{vip}\nreals = [{reals}]\n"
        );
        Table::from(&Config::from_toml(&text).expect("a configuration"))
    }

    fn told(before: &Table, after: &Table) -> (String, Vec<String>) {
        let (vip, new) = after.vips.iter().next().expect("a VIP");
        let old = &before.vips[vip];
        let narrowest = Some(("eth0".to_owned(), 1500));
        let changes = [(*vip, old, new)].into_iter();
        (of_flows(old, new).unwrap_or_default(), warnings(changes, &narrowest, 1))
    }

    #[test]
    fn a_change_names_what_the_reals_need_and_what_fits() {
        let reals = "{ address = \"10.0.0.1\" }, { address = \"fc00::1\" }";
        let ipip = table("", "", reals);
        let (flows, warnings) = told(&ipip, &table("encapsulation = \"gue\"", "", reals));
        assert!(flows.contains("to 2 reals go by gue instead of ipip at once"), "{flows}");
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].contains("IPv4 reals go by gue instead of ipip"), "{warnings:?}");
        assert!(warnings[0].ends_with("packets of up to 1472 bytes fit, 1480 before"));
        assert!(warnings[1].ends_with("packets of up to 1452 bytes fit, 1460 before"));
        // The VIP says the same as the default: nothing changes.
        let (flows, warnings) = told(&ipip, &table("", "encapsulation = \"ipip\"", reals));
        assert!(flows.is_empty() && warnings.is_empty(), "{flows} {warnings:?}");
    }

    #[test]
    fn a_source_stays_until_nobody_needs_it() {
        let with = |source4: u32, source6: u32, port: u16| abi::knobs {
            source4,
            source4_prefix: 32 * source4.min(1),
            source6_spread: source6,
            source6_prefix: 128 * source6.min(1),
            gue_port: port,
            ..abi::knobs::default()
        };
        let reals = "{ address = \"10.0.0.1\" }, { address = \"fc00::1\" }";
        let gue4 = "{ address = \"10.0.0.1\", encapsulation = \"gue\" }, { address = \"fc00::1\" }";
        let (ipip, gue) = (table("", "", reals), table("encapsulation = \"gue\"", "", reals));
        let gue4 = table("", "", gue4);
        let told = |from: (&Table, abi::knobs), to: (&Table, abi::knobs)| {
            let knobs = until_written((from.0, &from.1), (to.0, &to.1))?;
            Some((knobs.source4, knobs.source6_spread, knobs.gue_port))
        };
        // Back to IP in IP, in one step with the sources, or without them.
        assert_eq!(told((&gue, with(1, 1, 7)), (&ipip, with(0, 0, 8))), Some((1, 1, 7)));
        assert_eq!(told((&gue, with(1, 1, 7)), (&ipip, with(1, 1, 7))), None);
        assert_eq!(told((&gue4, with(1, 1, 7)), (&ipip, with(0, 0, 7))), Some((1, 0, 7)));
        // Only one family goes back: all else that is wanted holds at once.
        assert_eq!(told((&gue, with(1, 1, 7)), (&gue4, with(2, 0, 8))), Some((2, 1, 8)));
        // To GUE, and from one source to another.
        assert_eq!(told((&ipip, with(0, 0, 7)), (&gue, with(1, 1, 8))), None);
        assert_eq!(told((&gue, with(1, 1, 7)), (&gue, with(2, 2, 8))), None);
    }

    #[test]
    fn the_nearest_decides() {
        let own = "{ address = \"10.0.0.1\", encapsulation = \"ipip\" }";
        let local = "{ address = \"10.0.0.1\", local = true }";
        let (flows, _) = told(&table("", "", own), &table("", "encapsulation = \"l2\"", own));
        assert_eq!(flows, "");
        let (flows, warnings) = told(&table("", "", own), &table("", "", local));
        assert!(flows.contains("to 10.0.0.1 go by local delivery instead of ipip"), "{flows}");
        assert!(warnings[0].contains("1500 bytes fit, 1480 before"), "{warnings:?}");
    }
}
