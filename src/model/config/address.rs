//! How addresses are read from a file. An error repeats the text of the file.

use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::Deserializer;
use serde::de;

use crate::model::text::is_host_name;
use crate::model::text::quote;

/// What a file calls an address of this type.
pub(super) trait Address: FromStr {
    /// The type's name in errors, with its article.
    const CALLED: &'static str;
    /// What serde's error expects if the value is not a string.
    const EXPECTED: &'static str;
}

impl Address for IpAddr {
    const CALLED: &'static str = "an IP address";
    const EXPECTED: &'static str = "IP address";
}

impl Address for SocketAddr {
    const CALLED: &'static str = "an IP address with a port";
    const EXPECTED: &'static str = "socket address";
}

/// The error for a text that is not an address.
pub(super) fn no_address<A: Address>(text: &str) -> String {
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    if is_host_name(host) {
        format!("'{}' is a host name; only {} can be given", quote(text), A::CALLED)
    } else {
        format!("'{}' is not {}", quote(text), A::CALLED)
    }
}

/// For `deserialize_with`.
pub(super) fn read<'de, A: Address, D: Deserializer<'de>>(deserializer: D) -> Result<A, D::Error> {
    struct Visitor<A>(PhantomData<A>);

    impl<A: Address> de::Visitor<'_> for Visitor<A> {
        type Value = A;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(A::EXPECTED)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<A, E> {
            text.parse().map_err(|_| E::custom(no_address::<A>(text)))
        }
    }

    deserializer.deserialize_str(Visitor(PhantomData))
}
