//! The socket: requests and their answers.

use std::num::NonZeroI32;
use std::panic;
use std::pin::pin;
use std::thread;
use std::time::Duration;

use futures_util::stream::StreamExt;
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::packet_core::ErrorMessage;
use rtnetlink::packet_core::NLM_F_DUMP;
use rtnetlink::packet_core::NLM_F_DUMP_INTR;
use rtnetlink::packet_core::NLM_F_MULTIPART;
use rtnetlink::packet_core::NLM_F_REQUEST;
use rtnetlink::packet_core::NetlinkHeader;
use rtnetlink::packet_core::NetlinkMessage;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::proto;
use rtnetlink::proto::ConnectionHandle;
use rtnetlink::sys::AsyncSocket;
use rtnetlink::sys::SocketAddr;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use tokio::runtime;
use tokio::time::timeout;

use super::message::Message;
use super::message::is_default;
use super::message::is_local;
use crate::model::error::NetlinkError;

/// How long the kernel may take for each message of an answer; it normally takes microseconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a dump is tried if the table changes while it is read.
const DUMP_ATTEMPTS: usize = 5;

/// A client of the kernel's link, route and neighbour tables in one network namespace.
#[derive(Debug)]
pub(super) struct Netlink {
    handle: ConnectionHandle<Message>,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace, and serves it on the current runtime.
    pub(super) fn connect() -> Result<Self, NetlinkError> {
        let failed = NetlinkError::system("open a netlink socket");
        let (mut connection, handle, unsolicited) =
            proto::new_connection::<Message>(NETLINK_ROUTE).map_err(&failed)?;
        // Without these an error that ends a dump, and a connection that died before it answered,
        // both look like success.
        connection.set_forward_done(true);
        connection.set_forward_ack(true);
        let socket = connection.socket_mut().socket_mut();
        // It makes the kernel filter what it dumps by table and interface.
        socket.set_netlink_get_strict_chk(true).map_err(&failed)?;
        socket.set_ext_ack(true).map_err(&failed)?;
        socket.set_cap_ack(true).map_err(&failed)?;
        // The connection ends when nobody listens to either of its channels.
        drop(unsolicited);
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// Sends a request and collects the answer. Repeats a dump that a change interrupted.
    pub(super) async fn request(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, rtnetlink::Error> {
        let answers = self.ask(Message::Route(message), flags).await?.into_iter();
        let routes = answers.filter_map(|answer| match answer {
            Message::Route(message) => Some(message),
            Message::Nexthop(_) => None,
        });
        Ok(routes.collect())
    }

    /// The same for requests of all kinds.
    pub(super) async fn ask(
        &self,
        message: Message,
        flags: u16,
    ) -> Result<Vec<Message>, rtnetlink::Error> {
        let mut attempt = 1;
        loop {
            let (answers, interrupted) = self.exchange(message.clone(), flags).await?;
            // A table that always changes must be used anyway. `Changes` reports its changes.
            if !interrupted || attempt == DUMP_ATTEMPTS {
                return Ok(answers);
            }
            attempt += 1;
        }
    }

    /// Sends a request. Returns the answer, and whether the table changed while the kernel dumped it. Of a dump of
    /// routes, it keeps only default routes and routes to this host itself.
    async fn exchange(
        &self,
        message: Message,
        flags: u16,
    ) -> Result<(Vec<Message>, bool), rtnetlink::Error> {
        let mut request =
            NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(message));
        request.finalize();
        request.header.flags = NLM_F_REQUEST | flags;
        let kernel = SocketAddr::new(0, 0);
        let answers = self.handle.request(request, kernel);
        let mut stream = pin!(answers.map_err(|_| rtnetlink::Error::RequestFailed)?);
        let mut answers = Vec::new();
        let mut interrupted = false;
        let mut complete = false;
        loop {
            let next = timeout(ANSWER_TIMEOUT, stream.next()).await;
            let Some(answer) = next.map_err(|_| rtnetlink::Error::RequestFailed)? else {
                break;
            };
            interrupted |= answer.header.flags & NLM_F_DUMP_INTR != 0;
            match answer.payload {
                // A router's table can hold a million routes.
                NetlinkPayload::InnerMessage(Message::Route(RouteNetlinkMessage::NewRoute(
                    route,
                ))) if flags & NLM_F_DUMP == NLM_F_DUMP
                    && !is_default(&route)
                    && !is_local(&route) => {}
                NetlinkPayload::InnerMessage(inner) => {
                    complete |= answer.header.flags & NLM_F_MULTIPART == 0;
                    answers.push(inner);
                }
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    return Err(rtnetlink::Error::NetlinkError(error));
                }
                NetlinkPayload::Done(done) if done.code < 0 => {
                    let mut error = ErrorMessage::default();
                    error.code = NonZeroI32::new(done.code);
                    return Err(rtnetlink::Error::NetlinkError(error));
                }
                NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => complete = true,
                _ => {}
            }
        }
        // The stream also ends when the connection does.
        if complete { Ok((answers, interrupted)) } else { Err(rtnetlink::Error::RequestFailed) }
    }
}

/// Runs `work` with a [`Netlink`] of the calling thread's network namespace and waits for it.
///
/// It runs on a thread and a runtime of its own, so the caller may or may not be inside a runtime.
pub(super) fn blocking<T, F>(work: F) -> Result<T, NetlinkError>
where
    T: Send,
    F: AsyncFnOnce(Netlink) -> Result<T, NetlinkError> + Send,
{
    let run = || {
        room_for_runtime().map_err(NetlinkError::system("start a runtime for netlink"))?;
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(NetlinkError::system("start a runtime for netlink"))?;
        runtime.block_on(async { work(Netlink::connect()?).await })
    };
    thread::scope(|scope| {
        // The kernel starts a thread in the network namespace of the thread that starts it.
        thread::Builder::new()
            .name("l4lb-netlink".to_owned())
            .spawn_scoped(scope, run)
            .map_err(NetlinkError::system("start a thread for netlink"))?
            .join()
            .unwrap_or_else(|payload| panic::resume_unwind(payload))
    })
}

/// Tokio panics if there are no file descriptors for its signal handler.
fn room_for_runtime() -> std::io::Result<()> {
    let pair = std::os::unix::net::UnixStream::pair;
    (0..4).map(|_| pair()).collect::<std::io::Result<Vec<_>>>().map(drop)
}
