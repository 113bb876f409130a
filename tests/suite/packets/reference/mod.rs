//! The balancer as its documentation describes it, in plain Rust: the verdict on a packet, its real, and the bytes
//! that leave.
//!
//! Written from the description of the wire, not from the C; only the Maglev ring and the hash of a flow
//! are the library's, which have tests of their own. Time stands still: UDP flows do not expire, and a
//! limit of events per second is one of events. The guard against floods is not part of it.

mod answers;
mod decapsulate;
mod emit;
mod parse;
mod quic;
mod ways;

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::rc::Rc;

use l4lb::Config;
use l4lb::Delivery;
use l4lb::Encapsulation;
use l4lb::HashMode;
use l4lb::NoReal;
use l4lb::Oversize;
use l4lb::Protocol;
use l4lb::RealState;
use l4lb::Routing;
use l4lb::SourceV4;
use l4lb::SourceV6;
use l4lb::Vip;
use l4lb::VipConfig;
use l4lb::hash::flow_slot;
use l4lb::ring::Member;
use l4lb::ring::Ring;

use answers::Rules;
use decapsulate::Ends;
use decapsulate::Taken;
use parse::Fragment;
use parse::Packet;
use parse::Upper;
use ways::Way;
use ways::deliveries;

pub(crate) use emit::internet_sum;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMP6: u8 = 58;

const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const ICMP_HEADER: usize = 8;

/// What becomes of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judgement {
    /// `XDP_*`
    pub(crate) action: &'static str,
    /// By its name in `abi/reasons.h`.
    pub(crate) reason: &'static str,
    /// Where it goes.
    pub(crate) real: Option<IpAddr>,
    /// What leaves, or reaches the kernel. `None`: dropped.
    pub(crate) frame: Option<Vec<u8>>,
}

/// A balancer with the flows that it remembers.
#[derive(Debug)]
pub(crate) struct Reference {
    services: HashMap<Vip, Service>,
    /// Of all VIP addresses.
    rules: HashMap<IpAddr, Rules>,
    server_ids: HashMap<u32, IpAddr>,
    ends: Ends,
    flows: HashMap<Flow, IpAddr>,
    /// What reals say themselves about their way.
    deliveries: HashMap<IpAddr, Delivery>,
    /// The MACs of reals of L2.
    neighbours: HashMap<IpAddr, [u8; 6]>,
    /// The packet was in a tunnel that ends here.
    taken_out: bool,
    wire: Wire,
    /// Of frames for this host; empty: any of one station.
    macs: Vec<[u8; 6]>,
    too_big_replies: u32,
    refusals: u32,
    /// Errors and echo replies, by source.
    answered: HashMap<IpAddr, (u32, u32)>,
}

/// What is the same for all VIPs.
#[derive(Clone, Copy, Debug)]
struct Wire {
    /// `None`: the interface is not served.
    gateway: Option<[u8; 6]>,
    /// Bytes of IP packet that can be forwarded.
    longest: usize,
    tell_sender: bool,
    source4: SourceV4,
    source6: SourceV6,
    outer_df: bool,
    gue: emit::Gue,
}

#[derive(Debug)]
struct Service {
    hash: HashMode,
    remembers: bool,
    quic: bool,
    no_real: NoReal,
    encapsulation: Encapsulation,
    members: Vec<IpAddr>,
    ring: Option<Rc<Ring>>,
    down: BTreeSet<IpAddr>,
}

/// The parts of a flow that the VIP's hash mode looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Flow {
    vip: Vip,
    client: IpAddr,
    client_port: u16,
    port: u16,
}

/// What selects the real of a packet.
#[derive(Clone, Copy, Debug)]
struct Talk<'a> {
    vip: Vip,
    client: IpAddr,
    client_port: u16,
    port: u16,
    kind: Kind<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Kind<'a> {
    Tcp {
        syn: bool,
        rst: bool,
    },
    Udp {
        payload: &'a [u8],
    },
    IcmpError,
    /// Ends within its transport header.
    Runt,
}

/// Dropped or passed, and why.
type End = Result<(&'static str, IpAddr, Vec<u8>), &'static str>;

impl Reference {
    /// A balancer that has seen no packet.
    pub(crate) fn new(config: &Config) -> Self {
        let mut rings = HashMap::new();
        let packets = &config.packets;
        let service = |vip| (name_of(vip), Service::new(vip, packets.encapsulation, &mut rings));
        let services: HashMap<Vip, Service> = config.vips.iter().map(service).collect();
        let wire = Wire {
            gateway: config.interfaces.first().map(|interface| {
                interface.gateway_mac.expect("packet tests have fixed gateways").octets()
            }),
            longest: packets.max_frame as usize - 14,
            tell_sender: packets.oversize == Oversize::Icmp,
            source4: packets.source_v4(),
            source6: packets.source_v6(),
            outer_df: packets.outer_df,
            gue: emit::Gue {
                variant: packets.gue_variant,
                port: packets.gue_port(),
                icmp_as_katran: packets.gue_icmp_as_katran,
            },
        };
        Self {
            rules: services
                .keys()
                .map(|vip| (vip.address, Rules::of(config, vip.address)))
                .collect(),
            services,
            server_ids: config.server_ids.iter().map(|entry| (entry.id, entry.real)).collect(),
            ends: Ends::of(config),
            flows: HashMap::new(),
            deliveries: deliveries(config),
            neighbours: HashMap::new(),
            taken_out: false,
            wire,
            macs: config
                .interfaces
                .first()
                .map(|interface| interface.macs.iter().map(|mac| mac.octets()).collect())
                .unwrap_or_default(),
            too_big_replies: 0,
            refusals: 0,
            answered: HashMap::new(),
        }
    }

    /// What becomes of the next frame.
    pub(crate) fn judge(&mut self, frame: &[u8]) -> Judgement {
        let dropped = |reason| Judgement { action: "XDP_DROP", reason, real: None, frame: None };
        match self.take_out(frame) {
            Taken::Not => self.judge_frame(frame),
            Taken::Dropped(reason) => dropped(reason),
            Taken::Back(out) => {
                Judgement { action: "XDP_TX", reason: "to_router", real: None, frame: Some(out) }
            }
            Taken::Out(out) => {
                self.taken_out = true;
                let judged = self.judge_frame(&out);
                self.taken_out = false;
                // The host's kernel gets it for a real that is this host, and for nothing else.
                if judged.action == "XDP_PASS" && judged.reason != "local" {
                    return dropped("decap_not_vip");
                }
                judged
            }
        }
    }

    fn judge_frame(&mut self, frame: &[u8]) -> Judgement {
        let end = match Packet::parse(frame) {
            Err(reason) => Err(reason),
            Ok(packet) => self.judge_packet(&packet),
        };
        match end {
            Ok((reason, real, frame)) => Judgement {
                action: "XDP_TX",
                reason,
                real: (!real.is_unspecified()).then_some(real),
                frame: Some(frame),
            },
            Err(reason) if PASSES.contains(&reason) => {
                Judgement { action: "XDP_PASS", reason, real: None, frame: Some(frame.to_vec()) }
            }
            Err(reason) => Judgement { action: "XDP_DROP", reason, real: None, frame: None },
        }
    }

    fn judge_packet(&mut self, packet: &Packet<'_>) -> End {
        let (protocol, body) = match packet.upper {
            Upper::Hidden(reason) => {
                return Err(self.at_vip_address(packet).err().unwrap_or(reason));
            }
            Upper::Protocol { number, body } => (number, body),
        };
        let icmp = if packet.is_v6() { ICMP6 } else { ICMP };
        match protocol {
            TCP | UDP => self.judge_transport(packet, protocol, body),
            _ if protocol == icmp => self.judge_icmp(packet, body),
            // Katran drops them, and what they are fragments of may hide behind further headers.
            _ if packet.is_v6() && packet.fragment != Fragment::No => {
                Err(self.at_vip_address(packet).err().unwrap_or("fragment"))
            }
            _ => Err("other_protocol"),
        }
    }

    /// Passes what is for no VIP address, or not this balancer's business.
    fn at_vip_address(&self, packet: &Packet<'_>) -> Result<(), &'static str> {
        if !self.rules.contains_key(&packet.destination) {
            return Err("not_vip");
        }
        self.gateway(packet).map(|_| ())
    }

    /// Where the packet leaves for a real, if it came to this host at all.
    pub(super) fn gateway(&self, packet: &Packet<'_>) -> Result<[u8; 6], &'static str> {
        let gateway = self.wire.gateway.ok_or("other_interface")?;
        let ours = match self.macs.as_slice() {
            [] => packet.link[0] & 1 == 0,
            macs => macs.iter().any(|mac| packet.link.starts_with(mac)),
        };
        if ours { Ok(gateway) } else { Err("other_mac") }
    }

    fn judge_transport(&mut self, packet: &Packet<'_>, protocol: u8, body: &[u8]) -> End {
        let address = packet.destination;
        let protocol = Protocol::from_number(protocol).expect("TCP or UDP");
        let first = packet.fragment != Fragment::Later;
        let Some([a, b, c, d]) = body.first_chunk().copied().filter(|_| first) else {
            // No ports: to be dropped if the address has VIPs of this protocol at all.
            let mut vips = self.services.keys();
            let any = vips.find(|vip| vip.address == address && vip.protocol == protocol);
            let Some(vip) = any.copied() else {
                return self.other_port(packet, protocol.number(), body);
            };
            let client = packet.source;
            return self
                .forward(packet, Talk { vip, client, client_port: 0, port: 0, kind: Kind::Runt });
        };
        let (client_port, port) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let Some(vip) = self.vip_of(address, protocol, port) else {
            return self.other_port(packet, protocol.number(), body);
        };
        let kind = match protocol {
            Protocol::Tcp if body.len() >= TCP_HEADER => {
                Kind::Tcp { syn: body[13] & 0x02 != 0, rst: body[13] & 0x04 != 0 }
            }
            Protocol::Udp if body.len() >= UDP_HEADER => Kind::Udp { payload: &body[UDP_HEADER..] },
            _ => Kind::Runt,
        };
        self.forward(packet, Talk { vip, client: packet.source, client_port, port, kind })
    }

    /// The VIP with this port, else the one that takes every port.
    fn vip_of(&self, address: IpAddr, protocol: Protocol, port: u16) -> Option<Vip> {
        let candidates = [port, 0].map(|port| Vip { address, port, protocol });
        candidates.into_iter().find(|vip| self.services.contains_key(vip))
    }

    fn judge_icmp<'a>(&mut self, packet: &Packet<'a>, body: &'a [u8]) -> End {
        let header =
            body.first_chunk::<ICMP_HEADER>().filter(|_| packet.fragment != Fragment::Later);
        let (request, reply, errors) = if packet.is_v6() {
            (128, 129, [1, 2, 3, 4].as_slice())
        } else {
            (8, 0, [3, 11, 12].as_slice())
        };
        match header {
            Some([kind, code, ..]) if errors.contains(kind) => {
                let quote = &body[ICMP_HEADER..];
                let about = || self.about_no_vip(packet, (*kind, *code), quote);
                let talk = self.quoted(packet, quote).ok_or_else(about)?;
                self.forward(packet, talk)
            }
            Some([kind, ..]) if *kind != request => Err("other_icmp"),
            _ => {
                self.at_vip_address(packet)?;
                packet.unfit(header.is_none())?;
                if packet.has_extensions && !packet.atomic {
                    return Err("extension_headers");
                }
                self.echo(packet, reply)
            }
        }
    }

    /// The flow of a VIP that an ICMP error is about, from what it quotes.
    fn quoted<'a>(&self, packet: &Packet<'a>, quote: &'a [u8]) -> Option<Talk<'a>> {
        let quoted = packet.parse_quote(quote)?;
        let Upper::Protocol { number, body } = quoted.upper else { return None };
        // The VIP's real sent it, to the client.
        if quoted.source != packet.destination || quoted.fragment == Fragment::Later {
            return None;
        }
        let ports: [u8; 8] = *body.first_chunk()?;
        let port = u16::from_be_bytes([ports[0], ports[1]]);
        let client_port = u16::from_be_bytes([ports[2], ports[3]]);
        let vip = self.vip_of(quoted.source, Protocol::from_number(number)?, port)?;
        Some(Talk { vip, client: quoted.destination, client_port, port, kind: Kind::IcmpError })
    }

    fn forward(&mut self, packet: &Packet<'_>, talk: Talk<'_>) -> End {
        let gateway = self.gateway(packet)?;
        packet.unfit(matches!(talk.kind, Kind::Runt))?;
        let flow = self.flow_of(&talk);
        let selected = self.select(packet, &talk, flow);
        let way = self.way(talk.vip, selected.ok().map(|(_, real)| real));
        if self.is_too_long(packet, way) {
            return self.too_long(packet, &talk);
        }
        let Ok((reason, real)) = selected else { return self.without_real(packet, &talk) };
        let reason = if matches!(talk.kind, Kind::IcmpError) { "icmp_error" } else { reason };
        let frame = match way {
            // A packet from this host itself, out of a tunnel.
            Way::Local if self.taken_out && packet.source == real => {
                return Err("decap_inner_address");
            }
            Way::Local => return Err("local"),
            Way::By(Encapsulation::L2) => self.by_l2(packet, real)?,
            Way::By(Encapsulation::Gue) => self.by_gue(packet, &talk, flow, gateway, real),
            Way::By(_) => self.by_ipip(packet, &talk, flow, gateway, real),
        };
        Ok((reason, real, frame))
    }

    fn flow_of(&self, talk: &Talk<'_>) -> Flow {
        let Talk { vip, client, client_port, port, .. } = *talk;
        let any_port = vip.port == 0;
        let flow = Flow { vip, client, client_port, port };
        let nobody = match client {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        match self.services[&vip].hash {
            HashMode::FiveTuple if any_port => Flow { port: 0, ..flow },
            HashMode::FiveTuple | HashMode::SourceAndDestinationPort => flow,
            HashMode::NoSourcePort if any_port => Flow { client_port: 0, port: 0, ..flow },
            HashMode::NoSourcePort => Flow { client_port: 0, ..flow },
            _ => Flow { client: nobody, client_port: port, ..flow },
        }
    }

    fn select(
        &mut self,
        packet: &Packet<'_>,
        talk: &Talk<'_>,
        flow: Flow,
    ) -> Result<(&'static str, IpAddr), &'static str> {
        let service = &self.services[&talk.vip];
        if let Kind::Udp { payload } = talk.kind
            && service.quic
            && let Some(id) = quic::server_id(payload)
            && let Some(real) = self.server_ids.get(&id).copied()
            && !service.down.contains(&real)
        {
            if service.remembers && self.fits(packet, talk, real) {
                self.flows.insert(flow, real);
            }
            return Ok(("server_id", real));
        }
        let (syn, rst) = match talk.kind {
            Kind::Tcp { syn, rst } => (syn, rst),
            _ => (false, false),
        };
        // Where connections share an entry, a new one goes where the others are.
        let shared = match service.hash {
            HashMode::FiveTuple => talk.vip.port == 0,
            HashMode::SourceAndDestinationPort => false,
            _ => true,
        };
        if service.remembers
            && (shared || !syn)
            && let Some(real) = self.flows.get(&flow)
        {
            return Ok(("connection_table", *real));
        }
        let ring = service.ring.as_ref().ok_or("no_real")?;
        let slot = flow_slot(flow.client, flow.client_port, flow.port);
        let real = service.members[ring.member_at(slot)];
        let remembered = !rst && !matches!(talk.kind, Kind::IcmpError);
        if service.remembers && remembered && self.fits(packet, talk, real) {
            self.flows.insert(flow, real);
        }
        Ok(("ring", real))
    }
}

const PASSES: [&str; 9] = [
    "not_vip",
    "not_ip",
    "bad_ip_header",
    "other_protocol",
    "other_icmp",
    "gue_refused",
    "other_interface",
    "other_mac",
    "local",
];

fn name_of(config: &VipConfig) -> Vip {
    Vip { address: config.address, port: config.port, protocol: config.protocol }
}

type Rings = HashMap<Vec<(IpAddr, u32)>, Option<Rc<Ring>>>;

impl Service {
    fn new(config: &VipConfig, default: Encapsulation, rings: &mut Rings) -> Self {
        let up: Vec<_> = config
            .reals
            .iter()
            .filter(|real| real.state == RealState::Up)
            .map(|real| (real.address, real.weight))
            .collect();
        let ring = rings.entry(up.clone()).or_insert_with(|| {
            let members: Vec<_> =
                up.iter().map(|&(address, weight)| Member { address, weight }).collect();
            Ring::build(&members).map(Rc::new)
        });
        let down = config.reals.iter().filter(|real| real.state == RealState::Down);
        Self {
            hash: config.hash,
            remembers: config.connection_table,
            quic: config.routing.contains(&Routing::QuicConnectionId),
            no_real: config.no_real,
            encapsulation: config.encapsulation.unwrap_or(default),
            members: up.iter().map(|(address, _)| *address).collect(),
            ring: ring.clone(),
            down: down.map(|real| real.address).collect(),
        }
    }
}
