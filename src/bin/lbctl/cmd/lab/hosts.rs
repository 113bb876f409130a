//! What the lab's reals and its client do: a web server that says its name, and clients that count, flood and talk.
//! The lab needs no other web server or client on the machine.

use std::collections::BTreeMap;
use std::io;
use std::io::ErrorKind;
use std::io::Read as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use ipnet::Ipv4Net;
use libbpf_rs::MapCore as _;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use socket2::Domain;
use socket2::Socket;
use socket2::Type;

/// The lab's VIP: examples/lab.sh has it, too.
const VIP: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 200, 1, 1), 80);

const REALS: [&str; 3] = ["real1", "real2", "real3"];

/// How long a client waits for a real.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a server waits for the next part of a request, and how long a request may be.
const SERVER_PATIENCE: Duration = Duration::from_secs(10);
const LONGEST_REQUEST: usize = 64 * 1024;

/// How many requests a server reads at a time; more connections are closed.
const AT_A_TIME: usize = 1000;

/// A server's thread needs little.
const STACK: usize = 64 * 1024;

/// A flood begins so many connections at a time, and pauses so long in between: 2000 a second.
const SALVO: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// The maps of `drop_list`, and the number of the counter that the lab uses.
const MAPS: &str = "/sys/fs/bpf/l4lb/default/map/drop_list";
const COUNTER: u32 = 7;

/// How often a connection that is kept busy sends a line.
const TALK_EVERY: Duration = Duration::from_millis(100);

/// Answers each request with the name. It runs until it is killed.
pub(super) fn web(name: &str) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, VIP.1))?;
    let name: Arc<str> = name.into();
    let busy = Arc::<AtomicUsize>::default();
    loop {
        // A client may have gone before it is accepted.
        let Ok((stream, _)) = listener.accept() else { continue };
        if busy.load(Ordering::Relaxed) >= AT_A_TIME {
            continue;
        }
        busy.fetch_add(1, Ordering::Relaxed);
        let (name, served) = (Arc::clone(&name), Arc::clone(&busy));
        let started = thread::Builder::new().stack_size(STACK).spawn(move || {
            // A client that goes away is no failure of this server.
            let _ = answer(stream, &name);
            served.fetch_sub(1, Ordering::Relaxed);
        });
        if started.is_err() {
            busy.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn answer(mut stream: TcpStream, name: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(SERVER_PATIENCE))?;
    let mut request = Vec::new();
    let mut part = [0; 1024];
    while !request.ends_with(b"\r\n\r\n") {
        let read = stream.read(&mut part)?;
        if read == 0 || request.len() > LONGEST_REQUEST {
            return Ok(());
        }
        request.extend_from_slice(&part[..read]);
    }
    let body = format!("{name}\n");
    let length = body.len();
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

/// Asks so many times, and returns who answered: `real1 10, real2 20, real3 30, failed 0`.
pub(super) fn ask(requests: u32) -> String {
    let mut answers: BTreeMap<_, _> = REALS.map(|real| (real.to_owned(), 0)).into();
    let mut failed = 0;
    for _ in 0..requests {
        match one_answer() {
            Ok(name) => *answers.entry(name).or_insert(0) += 1,
            Err(_) => failed += 1,
        }
    }
    let answers: Vec<_> = answers.iter().map(|(name, count)| format!("{name} {count}")).collect();
    format!("{}, failed {failed}", answers.join(", "))
}

fn one_answer() -> io::Result<String> {
    let mut stream = connect()?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or(ErrorKind::UnexpectedEof)?;
    Ok(body.trim().to_owned())
}

fn connect() -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from(VIP), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Begins connections and leaves them at once, so each is a flow of one SYN.
pub(super) fn flood(time: Duration) -> io::Result<String> {
    let started = Instant::now();
    let mut begun = 0_u64;
    while started.elapsed() < time {
        for _ in 0..SALVO {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_nonblocking(true)?;
            // It is in progress: nobody waits for the answer.
            let _ = socket.connect(&SocketAddr::from(VIP).into());
            begun += 1;
        }
        sleep(PAUSE);
    }
    Ok(format!("{begun} connections begun"))
}

/// Keeps connections busy: each sends a line of a request that does not end.
pub(super) fn talk(connections: u32, time: Duration) -> io::Result<String> {
    let mut streams = (0..connections).map(|_| connect()).collect::<io::Result<Vec<_>>>()?;
    for stream in &mut streams {
        stream.write_all(b"GET / HTTP/1.1\r\n")?;
    }
    let until = Instant::now() + time;
    while Instant::now() < until {
        streams.retain_mut(|stream| stream.write_all(b"X: y\r\n").is_ok());
        sleep(TALK_EVERY);
    }
    Ok(format!("{connections} connections, {} still there", streams.len()))
}

/// What `bpftool map update` and `lookup` would do: docs/chain.md has these commands.
pub(super) fn block(network: Option<Ipv4Net>) -> io::Result<String> {
    let open = |map: &str| {
        MapHandle::from_pinned_path(format!("{MAPS}/{map}")).map_err(|error| {
            io::Error::other(format!("{MAPS}/{map}: {error}; insert drop_list.bpf.o first"))
        })
    };
    if let Some(network) = network {
        let mut key = u32::from(network.prefix_len()).to_ne_bytes().to_vec();
        key.extend(network.network().octets());
        let list = open("drop4")?;
        list.update(&key, &COUNTER.to_ne_bytes(), MapFlags::ANY).map_err(io::Error::other)?;
    }
    let counts = open("dropped")?
        .lookup_percpu(&COUNTER.to_ne_bytes(), MapFlags::ANY)
        .map_err(io::Error::other)?;
    let counts = counts
        .iter()
        .flatten()
        .filter_map(|cpu| Some(u64::from_ne_bytes(cpu[..].try_into().ok()?)));
    Ok(format!("dropped {}", counts.sum::<u64>()))
}
