//! The connection tables: which flows are remembered, and how many.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;

/// `[connection_table]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ConnectionTableConfig {
    /// How flows are stored.
    pub kind: TableKind,
    /// Flows in all, shared out over the CPUs.
    pub entries: u32,
    /// The CPUs that get a table of their own.
    pub cpus: Cpus,
    /// How many seconds after its last packet a UDP flow is remembered.
    pub udp_timeout_seconds: u32,
    /// New flows per second and CPU that are remembered. Flows above this limit are still balanced.
    pub new_connections_per_second: u32,
}

impl Default for ConnectionTableConfig {
    fn default() -> Self {
        Self {
            kind: TableKind::default(),
            entries: 1_000_000,
            cpus: Cpus::Auto,
            udp_timeout_seconds: 30,
            new_connections_per_second: 125_000,
        }
    }
}

/// `kind` of the connection table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TableKind {
    /// Sets of four flows in arrays: one cache line a packet.
    #[default]
    SetAssociative,
    /// The kernel's LRU hash, as in Katran.
    Lru,
}

/// The most flows in all tables together: some ten times what a balancer sees, and gigabytes of memory.
pub const MAX_TABLE_ENTRIES: u32 = 100_000_000;

/// `cpus`: `"auto"`, or a list of CPU numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cpus {
    /// The CPUs that serve the receive queues of the interfaces. All online CPUs, if an interface has no queues of its
    /// own, or their CPUs are not known.
    #[default]
    Auto,
    /// These CPUs.
    List(Vec<u32>),
}

impl<'de> Deserialize<'de> for Cpus {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Cpus;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"auto\" or a list of CPU numbers")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Cpus, E> {
                match text {
                    "auto" => Ok(Cpus::Auto),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Cpus, A::Error> {
                let mut list = Vec::new();
                while let Some(cpu) = seq.next_element()? {
                    list.push(cpu);
                }
                Ok(Cpus::List(list))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for Cpus {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::List(list) => list.serialize(serializer),
        }
    }
}
