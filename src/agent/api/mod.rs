//! The control API of `lbctl serve`: what `lbctl … --json` prints, and what `lbctl vip` and `lbctl real` change, as HTTP
//! and JSON on a Unix socket. docs/api.md has examples, docs/openapi.json every detail.
//!
//! Everything that reads or writes maps runs on blocking threads. At most [`READERS`] requests read at a time and one
//! changes something; others wait, and are told to come again if that takes too long.

mod answer;
mod change;
mod drain;
mod endpoint;
mod health;
mod network;
mod output;
mod overview;
mod read;
mod request;
mod routes;
mod socket;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http_body_util::BodyExt as _;
use http_body_util::Either;
use http_body_util::Full;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use tokio::net::unix::UCred;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use self::answer::Answer;
use self::answer::Refusal;
use self::drain::Drains;
pub(super) use self::endpoint::ControlEndpoint;
pub(super) use self::endpoint::socket_of;
pub(super) use self::network::Network;
use self::overview::Overview;
use self::request::Asked;
use self::request::Conditions;
use self::request::Query;
use self::routes::Run;
use super::http::connections::Connection;
use super::http::packed::Packed;
use super::http::packed::Unzipped;
use super::http::server::Limits;
use super::printed::Printer;
use super::printed::Secrets;
use super::trusted::is_trusted;
use super::warnings::log_details;
use crate::instance::Instance;
use crate::kernel::audit::Entry;
use crate::kernel::audit::Who;
use crate::model::config::GroupMay;
use crate::plan::Plan;

/// How many requests read the instance at a time.
const READERS: usize = 4;

/// How many of them are of clients that are neither root nor this process's user: these never wait for those.
const OTHER_READERS: usize = READERS - 1;

/// The bytes from which on an answer is compressed until it is sent.
const LONG: usize = 256 * 1024;

/// How long a request waits for others, and then for the lock of the instance.
const TIME_TO_WAIT: Duration = Duration::from_secs(10);

/// How long the end of `lbctl serve` waits for a change that is being made.
const TIME_TO_END: Duration = Duration::from_secs(3);

const LIMITS: Limits = Limits {
    name: "control API",
    connections: 64,
    time_to_ask: Duration::from_secs(5),
    // A body, two waits, counting flows, and the change.
    time_to_answer: Duration::from_secs(60),
};

/// A note about the file of this process.
type Note = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// What answers requests. Clones share their limits.
#[derive(Clone)]
pub(super) struct Api {
    instance: Instance,
    note: Note,
    readers: Arc<Semaphore>,
    other_readers: Arc<Semaphore>,
    writer: Arc<Semaphore>,
    drains: Arc<Drains>,
    others_change: Arc<AtomicBool>,
    printer: Option<Printer>,
    overview: Overview,
}

/// Waits until fewer others are at work.
async fn turn(of: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Refusal> {
    match timeout(TIME_TO_WAIT, Arc::clone(of).acquire_owned()).await {
        Ok(Ok(turn)) => Ok(turn),
        Ok(Err(_)) => Err(Refusal::busy("lbctl serve is about to end")),
        Err(_) => {
            let wait = TIME_TO_WAIT.as_secs();
            Err(Refusal::busy(format!("other requests took longer than {wait} s; try again")))
        }
    }
}

/// Does work on a thread that may block. The work keeps its turn until it is done, even if the client has gone.
async fn blocking<T: Send + 'static>(
    turn: OwnedSemaphorePermit,
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let done = spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    done.await.unwrap_or_else(|error| {
        let what = format!("cannot finish the request: {error}");
        Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, what))
    })
}

/// An answer: a long one, which is decompressed while it is sent, or a short one.
type Content = Either<Unzipped, Full<Bytes>>;

/// The same answer. A long one waits compressed for the client to read it: lists of all reals have tens of megabytes, and
/// clients may be slow.
async fn packed(response: Response<Full<Bytes>>) -> Response<Content> {
    let (head, body) = response.into_parts();
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes);
    if body.len() < LONG {
        return Response::from_parts(head, Either::Right(Full::new(body)));
    }
    let text = body.clone();
    let content = match spawn_blocking(move || Packed::of(&text)).await {
        Ok(Ok(packed)) => Either::Left(packed.into_text()),
        _ => Either::Right(Full::new(body)),
    };
    Response::from_parts(head, content)
}

impl Api {
    /// For an instance. `note` must not take long.
    pub(super) fn new(
        instance: &Instance,
        note: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            instance: instance.clone().with_lock_timeout(TIME_TO_WAIT),
            note: Arc::new(note),
            readers: Arc::new(Semaphore::new(READERS)),
            other_readers: Arc::new(Semaphore::new(OTHER_READERS)),
            writer: Arc::new(Semaphore::new(1)),
            drains: Arc::default(),
            others_change: Arc::default(),
            printer: None,
            overview: Overview::new(instance),
        }
    }

    /// The same, with what runs commands for those who may only read.
    pub(super) fn with_printer(self, printer: Option<Printer>) -> Self {
        Self { printer, ..self }
    }

    /// What clients may do that are neither root nor this process's user. It counts for requests that wait already.
    fn let_others(&self, may: GroupMay) {
        self.others_change.store(may == GroupMay::Change, Ordering::Relaxed);
    }

    fn may_change(&self, peer: UCred) -> bool {
        is_trusted(peer.uid()) || self.others_change.load(Ordering::Relaxed)
    }

    /// Refuses a change by a client that may only read.
    fn check_may_change(&self, peer: UCred) -> Result<(), Refusal> {
        if self.may_change(peer) {
            return Ok(());
        }
        let what = format!(
            "user {} may read only; with [control] group_may = \"change\" in the file of lbctl serve, whoever may use \
             the socket may change the balancer",
            peer.uid()
        );
        Err(Refusal::new(StatusCode::FORBIDDEN, what))
    }

    /// Waits a moment for a change that is being made, and refuses further ones.
    pub(super) async fn end(&self) {
        let _: Result<_, _> = timeout(TIME_TO_END, self.writer.acquire()).await;
        self.writer.close();
    }

    /// Answers a request.
    async fn answer(self, request: Request<Incoming>, peer: UCred) -> Response<Content> {
        let answered = self.handle(request, peer).await;
        packed(answered.unwrap_or_else(Refusal::into_answer).into_response()).await
    }

    async fn handle(&self, request: Request<Incoming>, peer: UCred) -> Result<Answer, Refusal> {
        let (head, body) = request.into_parts();
        let (resource, asked) = routes::find(head.uri.path())?;
        let operation = resource.operation(&head.method)?;
        let query = Query::parse(head.uri.query().unwrap_or_default(), operation.parameters)?;
        let conditions = Conditions::parse(&head.headers)?;
        let secrets = if self.may_change(peer) { Secrets::Shown } else { Secrets::Hidden };
        let asked = Asked { query, conditions, secrets, ..asked };
        let instance = self.instance.clone();
        match operation.run {
            Run::Fixed(run) => run(&instance),
            Run::Overview => self.overview.answer().await,
            Run::Read(run) => self.read(peer, move || run(&instance, &asked)).await,
            Run::Watch(run) => {
                let drains = Arc::clone(&self.drains);
                let work = move || run(&drains, &instance, &asked);
                self.read(peer, work).await
            }
            Run::Print => {
                let printer = self.printer.clone();
                let work = move || output::print(printer.as_ref(), &instance, &asked);
                self.read(peer, work).await
            }
            Run::Readiness => {
                let note = Arc::clone(&self.note);
                let work = move || read::ready(&instance, &asked, note());
                self.read(peer, work).await
            }
            Run::Tell(run) => {
                let work = move |asked: &Asked| {
                    run(&instance, asked).map(|(answer, plan)| (answer, Some(plan)))
                };
                self.write(&head, body, asked, peer, work).await
            }
            Run::Change(make) => {
                let work = move |asked: &Asked| make(asked)?.make(&instance, asked);
                self.write(&head, body, asked, peer, work).await
            }
        }
    }

    /// Waits for its turn, and reads.
    async fn read(
        &self,
        peer: UCred,
        work: impl FnOnce() -> Result<Answer, Refusal> + Send + 'static,
    ) -> Result<Answer, Refusal> {
        let of_others =
            if is_trusted(peer.uid()) { None } else { Some(turn(&self.other_readers).await?) };
        let work = move || {
            let _of_others = of_others;
            work()
        };
        blocking(turn(&self.readers).await?, work).await
    }

    /// Reads the body, waits for its turn, and changes something.
    async fn write(
        &self,
        head: &Parts,
        body: Incoming,
        asked: Asked,
        peer: UCred,
        work: impl FnOnce(&Asked) -> Result<(Answer, Option<Plan>), Refusal> + Send + 'static,
    ) -> Result<Answer, Refusal> {
        self.check_may_change(peer)?;
        // A client that is slow to send its body holds up no other.
        let asked = Asked { body: request::read_body(&head.headers, body).await?, ..asked };
        if let Some(connection) = head.extensions.get::<Connection>() {
            connection.asked();
        }
        let turn = turn(&self.writer).await?;
        // The file may say something else by now.
        self.check_may_change(peer)?;
        let what = format!("{} {}", head.method, head.uri.path());
        let instance = self.instance.clone();
        let dry_run = asked.query.is_set(change::DRY_RUN).unwrap_or(true);
        blocking(turn, move || {
            let made = work(&asked);
            if !dry_run {
                report(&instance, &what, peer, &made);
            }
            Ok(made?.0)
        })
        .await
    }
}

/// Logs who changed what, or tried to, and tells the system's log.
fn report(
    instance: &Instance,
    what: &str,
    peer: UCred,
    made: &Result<(Answer, Option<Plan>), Refusal>,
) {
    let who = Who::peer(peer.uid(), peer.pid());
    let (done, result) = match made {
        Ok((_, plan)) => (true, plan.as_ref().map_or("done".to_owned(), Plan::summary)),
        Err(refusal) => (false, refusal.error().to_owned()),
    };
    let failed = if done { "" } else { "FAILED: " };
    tracing::info!("control API: {what} by {who}: {failed}{result}");
    if let Ok((_, Some(plan))) = made {
        log_details(plan);
    }
    let what = format!("control API: {what}");
    Entry { instance: instance.name(), who: &who, what: &what, result: &result, done }.send();
}
