//! The knobs of the balancer's program: made from a configuration, read back into one, and compared.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::model::abi;
use crate::model::abi::consts;
use crate::model::config::Config;
use crate::model::config::Encapsulation;
use crate::model::config::Oversize;
use crate::model::config::PacketsConfig;
use crate::model::config::SourceV4;
use crate::model::config::SourceV6;
use crate::model::config::TableKind;
use crate::model::connection_tables::Tables;
use crate::model::connection_tables::udp_timeout;
use crate::model::secret::AnswerSecret;
use crate::model::secret::Secret;
use crate::plan::detail::Detail;

/// "Too big" answers per second and CPU, to all senders together. Linux has the same limit per host for its own ICMP
/// errors.
pub(crate) const TOO_BIG_REPLIES_PER_SECOND: u32 = 1_000;

/// The program's knobs for a configuration.
pub(crate) fn knobs(
    config: &Config,
    tables: &Tables,
    secret: Secret,
    answer_secret: AnswerSecret,
) -> abi::knobs {
    let table = &config.connection_table;
    let (v4, v6) = (config.packets.source_v4().net(), config.packets.source_v6().net());
    let (udp_timeout, udp_timeout_units) = udp_timeout(table.udp_timeout_seconds);
    // Only the last 32 bits of an IPv6 source vary.
    let tail = u32::MAX.checked_shr(u32::from(v6.prefix_len()).saturating_sub(96)).unwrap_or(0);
    abi::knobs {
        build: consts::OBJECT_HASH,
        udp_timeout,
        udp_timeout_units,
        table_factors: secret.factors,
        table_keys: secret.keys,
        answer_secret: answer_secret.words(),
        table_kind: tables.kind.raw(),
        table_bank: tables.bank,
        sets: tables.size(),
        max_ip_packet: config.packets.max_frame - PacketsConfig::ETHERNET_HEADER,
        new_flows_per_second: table.new_connections_per_second,
        too_big_replies_per_second: TOO_BIG_REPLIES_PER_SECOND,
        oversize_reply: u32::from(config.packets.oversize == Oversize::Icmp),
        source4: abi::be32(v4.network()),
        source4_spread: abi::be32(v4.hostmask()),
        source6: IpAddr::V6(v6.network()).into(),
        source6_spread: tail.to_be(),
        source4_prefix: config.packets.encap_source_v4.map_or(0, |net| net.prefix_len().into()),
        source6_prefix: config.packets.encap_source_v6.map_or(0, |net| net.prefix_len().into()),
        outer_df: config.packets.outer_df.into(),
        gue_port: config.packets.gue_port().to_be(),
        gue_variant: config.packets.gue_variant,
        encapsulation: config.packets.encapsulation.raw(),
        gue_icmp_as_katran: config.packets.gue_icmp_as_katran.into(),
        decapsulates: u16::from(!config.decapsulate.is_empty()),
        unused: 0,
    }
}

/// Writes the values of the knobs into a configuration.
pub(crate) fn write_knobs(knobs: &abi::knobs, config: &mut Config) {
    let seconds = knobs.udp_timeout / 1_000_000_000;
    config.connection_table.kind = TableKind::from_raw(knobs.table_kind);
    config.connection_table.udp_timeout_seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
    config.connection_table.new_connections_per_second = knobs.new_flows_per_second;
    let packets = &mut config.packets;
    packets.max_frame = knobs.max_ip_packet + PacketsConfig::ETHERNET_HEADER;
    packets.oversize = if knobs.oversize_reply == 0 { Oversize::Drop } else { Oversize::Icmp };
    let length = |prefix: u32| u8::try_from(prefix).unwrap_or(u8::MAX);
    let v4 = SourceV4::new(abi::from_be32(knobs.source4), length(knobs.source4_prefix));
    let v6 = match IpAddr::from(knobs.source6) {
        IpAddr::V6(v6) => SourceV6::new(v6, length(knobs.source6_prefix)),
        IpAddr::V4(v4) => SourceV6::new(v4.to_ipv6_mapped(), length(knobs.source6_prefix)),
    };
    packets.outer_df = knobs.outer_df != 0;
    packets.gue_icmp_as_katran = knobs.gue_icmp_as_katran != 0;
    packets.encapsulation = Encapsulation::from_raw(knobs.encapsulation.into());
    packets.gue_variant = knobs.gue_variant;
    let port = u16::from_be(knobs.gue_port);
    packets.gue_port = (port != PacketsConfig::default_gue_port(knobs.gue_variant)).then_some(port);
    // No source has a prefix of length 0, as that begins with the unspecified address.
    packets.encap_source_v4 = v4.filter(|_| knobs.source4_prefix != 0);
    packets.encap_source_v6 = v6.filter(|_| knobs.source6_prefix != 0);
}

/// What differs between two programs.
pub(super) fn knob_changes(old: &abi::knobs, new: &abi::knobs) -> Vec<Detail> {
    let mut details = Vec::new();
    if old.build != new.build {
        let build = |knobs: &abi::knobs| format!("{:016x}", knobs.build);
        details.push(Detail::setting("build", build(old), build(new), "new build"));
    }
    if old.decapsulates != new.decapsulates {
        let (was, is) = (old.decapsulates != 0, new.decapsulates != 0);
        let what = if is { "decapsulates" } else { "no longer decapsulates" };
        details.push(Detail::setting("decapsulate", was, is, what));
    }
    let (mut before, mut after) = (Config::default(), Config::default());
    write_knobs(old, &mut before);
    write_knobs(new, &mut after);
    let sections = |config: &Config| {
        [
            ("connection_table", serde_json::to_value(&config.connection_table)),
            ("packets", serde_json::to_value(&config.packets)),
        ]
    };
    for ((section, before), (_, after)) in sections(&before).into_iter().zip(sections(&after)) {
        let (Ok(before), Ok(after)) = (before, after) else { continue };
        // A key that says the default may be left out.
        let keys = [&before, &after].into_iter().filter_map(serde_json::Value::as_object);
        let keys: BTreeSet<_> = keys.flat_map(|table| table.keys()).collect();
        for key in keys {
            let of = |table: &serde_json::Value| table.get(key).cloned().unwrap_or_default();
            let (old, value) = (of(&before), of(&after));
            if old != value {
                let key = format!("{section}.{key}");
                let told = |value: &serde_json::Value| match value {
                    serde_json::Value::Null => "default".to_owned(),
                    value => value.to_string(),
                };
                let text = format!("{key} {} → {}", told(&old), told(&value));
                details.push(Detail::setting(key, old, value, text));
            }
        }
    }
    if details.is_empty() {
        let text = "replaced in one step, because the connection tables change";
        details.push(Detail::setting("connection_table", old.table_bank, new.table_bank, text));
    }
    details
}
