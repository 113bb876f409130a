//! What a change of the way to the reals means for packets, in words.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::model::address::Vip;
use crate::model::config::SentBy;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::Config;
    use crate::model::vip_table::Table;

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
