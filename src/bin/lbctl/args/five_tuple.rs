//! The headers of a packet to a VIP: `tcp://10.200.1.1:80 192.0.2.1:31337`, or `tcp 192.0.2.1:31337 10.200.1.1:80`.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::str::FromStr;

use l4lb::Protocol;
use l4lb::Vip;
use l4lb::flows::FiveTuple;

use super::addresses::endpoint;
use crate::Failure;

/// How the words are called in the help.
pub(super) const NAMES: [&str; 3] = ["VIP|PROTOCOL", "CLIENT:PORT", "SERVER:PORT"];

/// A word of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Header {
    Protocol(Protocol),
    Endpoint(SocketAddr),
    Vip(Vip),
}

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "tcp" => Ok(Self::Protocol(Protocol::Tcp)),
            "udp" => Ok(Self::Protocol(Protocol::Udp)),
            _ if text.contains("://") => {
                text.parse().map(Self::Vip).map_err(|error: l4lb::VipParseError| error.to_string())
            }
            _ if text.contains([':', '.', '[']) => {
                endpoint(text).map(Self::Endpoint).map_err(|error| match text.parse::<IpAddr>() {
                    Ok(client) => format!(
                        "{error}; 'lbctl flows list --client {client}' lists all flows of a client"
                    ),
                    Err(_) => error,
                })
            }
            _ => Err("write tcp or udp, an address and port such as 192.0.2.1:31337, or a VIP"
                .to_owned()),
        }
    }
}

/// The packet that the words name.
pub(crate) fn five_tuple(words: &[Header]) -> Result<FiveTuple, Failure> {
    use Header::Endpoint;
    use Header::Protocol;
    use Header::Vip;
    let (protocol, client, destination) = match *words {
        [Protocol(protocol), Endpoint(client), Endpoint(server)] => (protocol, client, server),
        [Protocol(protocol), Endpoint(client), Vip(vip)]
        | [Protocol(protocol), Vip(vip), Endpoint(client)]
            if protocol == vip.protocol =>
        {
            (protocol, client, server(vip)?)
        }
        [Vip(vip), Endpoint(client)] | [Endpoint(client), Vip(vip)] => {
            (vip.protocol, client, server(vip)?)
        }
        _ => {
            let what = "name a packet by its VIP and client, such as tcp://10.200.1.1:80 192.0.2.1:31337, or by \
                        protocol, client and server, such as tcp 192.0.2.1:31337 10.200.1.1:80";
            return Err(Failure::Usage(what.to_owned()));
        }
    };
    Ok(FiveTuple { protocol, client, destination })
}

fn server(vip: Vip) -> Result<SocketAddr, Failure> {
    if vip.port == 0 {
        let what = format!("{vip} is for every port: name the one that the client sends to");
        return Err(Failure::Usage(what));
    }
    Ok(SocketAddr::new(vip.address, vip.port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &str) -> Result<FiveTuple, String> {
        let words: Result<Vec<Header>, _> = words.split(' ').map(str::parse).collect();
        five_tuple(&words?).map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn both_spellings_name_the_same_packet() {
        let wanted = of("tcp 192.0.2.1:31337 10.200.1.1:80").expect("a packet");
        for words in [
            "tcp://10.200.1.1:80 192.0.2.1:31337",
            "192.0.2.1:31337 tcp://10.200.1.1:80",
            "tcp 192.0.2.1:31337 tcp://10.200.1.1:80",
        ] {
            assert_eq!(of(words), Ok(wanted), "{words}");
        }
        let v6 = of("udp://[fc00:1::1]:443 [2001:db8::1]:5").expect("a packet");
        assert_eq!(v6, of("udp [2001:db8::1]:5 [fc00:1::1]:443").expect("a packet"));
        for (words, says) in [
            ("udp 192.0.2.1:31337 tcp://10.200.1.1:80", "name a packet"),
            ("tcp 192.0.2.1:31337", "name a packet"),
            ("tcp://10.200.1.1:* 192.0.2.1:31337", "every port"),
            ("sctp 192.0.2.1:1 10.200.1.1:80", "write tcp or udp"),
        ] {
            let error = of(words).expect_err(words);
            assert!(error.contains(says), "{words}: {error}");
        }
    }
}
