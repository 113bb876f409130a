//! Notifications of changes.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use crate::model::address::Mac;
use futures_util::stream::Stream;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::NeighbourMessage;
use nix::errno::Errno;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::NetlinkMessage;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::proto;
use rtnetlink::proto::Connection;
use rtnetlink::proto::ConnectionHandle;
use rtnetlink::sys::AsyncSocket;
use rtnetlink::sys::SocketAddr;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use tokio::time::Instant;
use tokio::time::timeout_at;

use super::message::Message;
use super::message::Nexthop;
use super::message::NexthopMessage;
use super::message::is_default;
use super::message::is_local;
use super::neighbour::Neighbour;
use super::neighbour::neighbour_key;
use crate::model::error::NetlinkError;

/// How long [`Changes::next`] collects further changes before it reports.
const SETTLE: Duration = Duration::from_millis(50);

/// The most neighbours that [`Changes`] remembers. With more, it forgets them all, so that its memory is bounded.
pub(super) const SEEN_NEIGHBOURS: usize = 16_384;

/// The most nexthop objects that it remembers.
const SEEN_NEXTHOPS: usize = 16_384;

/// The changes that can alter a gateway, or the host's own addresses.
const GROUPS: [MulticastGroup; 6] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

/// The usable MACs of the neighbours, as the kernel last reported. It also announces changes of a neighbour's state.
/// Removed entries have none.
///
/// It also has the nexthop objects, by their ids. Routing daemons rewrite objects that did not change.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) neighbours: HashMap<(u32, IpAddr), Option<Mac>>,
    nexthops: HashMap<u32, Option<Nexthop>>,
}

impl Seen {
    /// Records a message, and says whether it can alter a gateway, or the host's own addresses: an interface, an
    /// address, a route to the host itself or a default route of the main table came, went or changed; a neighbour got
    /// another MAC, got one at all or lost it. Something that was never seen counts as changed.
    pub(super) fn is_news(&mut self, message: &RouteNetlinkMessage) -> bool {
        match message {
            RouteNetlinkMessage::NewLink(_)
            | RouteNetlinkMessage::DelLink(_)
            | RouteNetlinkMessage::NewAddress(_)
            | RouteNetlinkMessage::DelAddress(_) => true,
            RouteNetlinkMessage::NewNeighbour(message) => {
                let mac = Neighbour::from_message(message).usable_mac();
                self.is_new_mac(message, mac)
            }
            RouteNetlinkMessage::DelNeighbour(message) => self.is_new_mac(message, None),
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
                is_default(route) || is_local(route)
            }
            _ => false,
        }
    }

    /// Records the usable MAC of a neighbour, and says whether it changed.
    fn is_new_mac(&mut self, message: &NeighbourMessage, mac: Option<Mac>) -> bool {
        let Some(key) = neighbour_key(message) else {
            return false;
        };
        if self.neighbours.len() >= SEEN_NEIGHBOURS {
            self.neighbours.clear();
        }
        self.neighbours.insert(key, mac) != Some(mac)
    }

    /// Records a nexthop object, and says whether it changed. The kernel does not report the routes that disappear or
    /// change with it.
    pub(super) fn is_new_nexthop(&mut self, message: NexthopMessage) -> bool {
        let (id, now) = match message {
            NexthopMessage::Get(_) => return false,
            NexthopMessage::New(nexthop) => (nexthop.id, Some(nexthop)),
            NexthopMessage::Removed(nexthop) => (nexthop.id, None),
        };
        if self.nexthops.len() >= SEEN_NEXTHOPS {
            self.nexthops.clear();
        }
        self.nexthops.insert(id, now.clone()) != Some(now)
    }
}

/// A netlink message and who sent it.
type Received = (NetlinkMessage<Message>, SocketAddr);

/// A subscription to everything that can alter a gateway or the host's own addresses: interfaces,
/// addresses, neighbours, routes and nexthop objects.
///
/// Subscribe before you resolve, so that you miss no change. Only [`next`](Self::next) reads from the socket. If nobody
/// calls it, it costs no memory: the kernel drops what the socket cannot hold, and `next` then says that everything may
/// have changed.
pub struct Changes {
    /// `None` once it has ended.
    connection: Option<Connection<Message>>,
    messages: Pin<Box<dyn Stream<Item = Received> + Send>>,
    /// Kept because the connection ends with its last handle.
    _handle: ConnectionHandle<Message>,
    seen: Seen,
    /// Whether a change is to be reported. Kept here so that a dropped `next` loses nothing.
    pending: bool,
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").field("pending", &self.pending).finish_non_exhaustive()
    }
}

impl Changes {
    /// Subscribes in the calling thread's network namespace.
    ///
    /// # Panics
    ///
    /// As tokio does, outside a runtime that has its I/O and time drivers enabled.
    pub fn subscribe() -> Result<Self, NetlinkError> {
        let failed = NetlinkError::system("subscribe to netlink changes");
        let (mut connection, handle, messages) =
            proto::new_connection::<Message>(NETLINK_ROUTE).map_err(&failed)?;
        let socket = connection.socket_mut().socket_mut();
        socket.bind(&SocketAddr::new(0, 0)).map_err(&failed)?;
        for group in GROUPS {
            socket.add_membership(group as u32).map_err(&failed)?;
        }
        match socket.add_membership(MulticastGroup::Nexthop as u32) {
            // Linux before 5.3 has no nexthop objects.
            Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => {}
            joined => joined.map_err(&failed)?,
        }
        Ok(Self {
            connection: Some(connection),
            messages: Box::pin(messages),
            _handle: handle,
            seen: Seen::default(),
            pending: false,
        })
    }

    /// Waits for a change that can alter a gateway or the host's own addresses, and a moment longer, to report changes
    /// that come together as one. `None`: the subscription failed for good.
    ///
    /// Reports too much rather than too little: the first news of a neighbour always counts as a
    /// change. Dropping the future loses no change, so it fits `select!`.
    pub async fn next(&mut self) -> Option<()> {
        while !self.pending {
            let message = self.receive().await?;
            self.note(message);
        }
        let deadline = Instant::now() + SETTLE;
        // `timeout_at` alone would never end while there is always a message.
        while Instant::now() < deadline
            && let Ok(Some(message)) = timeout_at(deadline, self.receive()).await
        {
            self.note(message);
        }
        self.pending = false;
        Some(())
    }

    fn note(&mut self, message: NetlinkMessage<Message>) {
        match message.payload {
            NetlinkPayload::InnerMessage(Message::Route(message)) => {
                self.pending |= self.seen.is_news(&message);
            }
            NetlinkPayload::InnerMessage(Message::Nexthop(message)) => {
                self.pending |= self.seen.is_new_nexthop(message);
            }
            NetlinkPayload::Overrun(_) => {
                tracing::debug!("netlink lost messages; taking everything for changed");
                self.seen = Seen::default();
                self.pending = true;
            }
            _ => {}
        }
    }

    /// The next message; `None`: the connection has ended, and all that it read was taken.
    async fn receive(&mut self) -> Option<NetlinkMessage<Message>> {
        poll_fn(|context| self.poll_receive(context)).await
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Option<NetlinkMessage<Message>>> {
        let taken = self.messages.as_mut().poll_next(context);
        let taken = match (taken, &mut self.connection) {
            (Poll::Pending, Some(connection)) => {
                // The connection reads what the socket has into `messages`.
                if Pin::new(connection).poll(context).is_ready() {
                    self.connection = None;
                }
                self.messages.as_mut().poll_next(context)
            }
            (taken, _) => taken,
        };
        taken.map(|received| received.map(|(message, _)| message))
    }
}
