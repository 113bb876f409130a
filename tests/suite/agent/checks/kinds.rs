//! Each kind of check with a real server of its protocol, by `lbctl serve`, through the tunnel where that is the default.

use std::net::SocketAddr;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Child;
use std::process::Stdio;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use l4lb::Balancer;
use l4lb::Health;
use l4lb::Instance;
use l4lb::RealHealthStatus;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rcgen::date_time_ymd;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::fixtures::METRICS;
use crate::fixtures::Node;
use crate::fixtures::Rig;
use crate::fixtures::Serve;
use crate::fixtures::UdpEcho;
use crate::fixtures::config;
use crate::fixtures::get;
use crate::fixtures::udp_ask;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

/// How long a server may take to begin, and a check to notice, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(30);

const REALS: [&str; 2] = ["10.0.0.1", "10.0.0.2"];

/// How often, how patiently and after how many results.
const SETTINGS: &str = "interval = \"300ms\", timeout = \"300ms\", rise = 2, fall = 2";

/// A VIP with both reals and a check.
fn checked(name: &str, check: &str) -> String {
    format!("{}check = {{ {check}, {SETTINGS} }}\n", vip(name, &REALS))
}

/// Waits until this is known of a real of a VIP. Between two servers there may be none, and what is found then passes.
#[track_caller]
fn becomes(serve: &Serve<'_>, rig: &Rig, vip: &str, real: &str, health: Health, why: &str) {
    let instance = Instance::new(rig.bpffs.path(), "default").expect("a name");
    let known = || {
        let all = Balancer::open(&instance).expect("it runs").health().expect("readable");
        let of_real = |known: &RealHealthStatus| {
            known.vip.to_string() == vip && known.real.to_string() == real
        };
        let known = all.into_iter().find(of_real).expect("it is known");
        (known.details.state, known.details.reason)
    };
    let is = |(now, reason): &(Health, String)| *now == health && reason.starts_with(why);
    let found = wait_until(PATIENCE, || is(&known()));
    let log = || serve.running.stderr();
    assert!(found, "{vip}: {real}: not {health:?} ('{why}'), but {:?}\n{}", known(), log());
    println!("{vip}: {real} is {health:?}: {}", known().1);
}

/// A program that serves until this is dropped.
struct Server(Child);

impl Server {
    #[track_caller]
    fn start(real: &Node, program: &str, arguments: &[String]) -> Self {
        let mut command = real.ns.command(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Some are in a folder that not every user's PATH has.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
        let child = command.spawn();
        Self(child.unwrap_or_else(|error| panic!("{program}, which make setup installs: {error}")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has noticed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A packaged DNS server that knows one name, unless told otherwise.
fn dnsmasq(real: &Node, knows: &[&str]) -> Server {
    let fixed =
        "--keep-in-foreground --conf-file=/dev/null --pid-file= --no-hosts --no-resolv --user=root";
    // VIPs are addresses of no interface here.
    let listens = "--bind-interfaces --listen-address=10.200.1.1 --listen-address=10.200.1.2";
    let arguments = fixed.split(' ').chain(listens.split(' ')).chain(knows.iter().copied());
    Server::start(real, "dnsmasq", &arguments.map(ToOwned::to_owned).collect::<Vec<_>>())
}

/// UDP and TCP are judged apart, by the response code.
#[test]
fn dns() {
    const UDP: &str = "udp://10.200.1.1:53";
    const TCP: &str = "tcp://10.200.1.1:53";
    const ABSENT: &str = "udp://10.200.1.2:53";
    let knows = ["--local=/test/", "--address=/www.l4lb.test/10.9.9.9"];
    let rig = Rig::new(2);
    let [one, two] = [0, 1].map(|at| &rig.topology.reals[at]);
    let mut first = Some(dnsmasq(one, &knows));
    let _second = dnsmasq(two, &knows);
    let vips = [
        checked(UDP, "type = \"dns\", name = \"www.l4lb.test\""),
        checked(TCP, "type = \"dns\", name = \"www.l4lb.test\""),
        checked(ABSENT, "type = \"dns\", name = \"absent.l4lb.test\", rcode = \"NXDOMAIN\""),
    ];
    let serve = Serve::start(rig.lbctl(), &config(&vips.concat()));
    let becomes =
        |vip: &str, real: &str, health, why: &str| becomes(&serve, &rig, vip, real, health, why);
    let all = [(UDP, "DNS NOERROR"), (TCP, "DNS NOERROR"), (ABSENT, "DNS NXDOMAIN")];
    for (vip, why) in all {
        for real in REALS {
            becomes(vip, real, Health::Healthy, why);
        }
    }
    let restart = |first: &mut Option<Server>, knows: Option<&[&str]>| {
        drop(first.take());
        *first = knows.map(|knows| dnsmasq(one, knows));
    };
    // It does not know the name any more.
    restart(&mut first, Some(&["--local=/test/"]));
    becomes(UDP, REALS[0], Health::Unhealthy, "DNS NXDOMAIN");
    becomes(TCP, REALS[0], Health::Unhealthy, "DNS NXDOMAIN");
    becomes(ABSENT, REALS[0], Health::Healthy, "");
    // The names are not its own, and it may ask nobody.
    restart(&mut first, Some(&[]));
    for vip in [UDP, TCP, ABSENT] {
        becomes(vip, REALS[0], Health::Unhealthy, "DNS REFUSED");
    }
    restart(&mut first, None);
    becomes(UDP, REALS[0], Health::Unhealthy, "ICMP port unreachable");
    becomes(TCP, REALS[0], Health::Unhealthy, "connection refused");
    becomes(ABSENT, REALS[0], Health::Unhealthy, "ICMP port unreachable");
    restart(&mut first, Some(&knows));
    for (vip, why) in all {
        becomes(vip, REALS[0], Health::Healthy, why);
    }
    let log = serve.running.stderr();
    let other = format!("real {} is unhealthy", REALS[1]);
    assert!(!log.contains(&other), "nothing was wrong with the other real:\n{log}");
}

/// A server of QUIC, on a thread of its own, until this is dropped.
struct QuicServer {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl QuicServer {
    #[track_caller]
    fn start(real: &Node, config: quinn::ServerConfig) -> Self {
        let socket = real.ns.bind(|| UdpSocket::bind("10.200.1.1:443")).expect("a port");
        let (stop, stopped) = oneshot::channel();
        let serve = async move {
            let runtime = Arc::new(quinn::TokioRuntime);
            let options = quinn::EndpointConfig::default();
            let endpoint = quinn::Endpoint::new(options, Some(config), socket, runtime);
            let _endpoint = endpoint.expect("an endpoint");
            // It ends, too, if the test does.
            let _ = stopped.await;
        };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(serve);
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for QuicServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // If it has panicked, it has said so.
            let _ = thread.join();
        }
    }
}

/// A server of a library that many use. It answers what it does not understand, and keeps no state for that.
#[test]
fn quic() {
    const VIP: &str = "udp://10.200.1.1:443";
    let key = rcgen::generate_simple_self_signed(vec!["www.example".to_owned()]).expect("a key");
    let private = PrivateKeyDer::try_from(key.signing_key.serialize_der()).expect("a key");
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("a version")
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private)
        .expect("a configuration");
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).expect("it fits QUIC");
    let config_of_quic = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let rig = Rig::new(2);
    let start = |real: &Node| QuicServer::start(real, config_of_quic.clone());
    let [one, two] = [0, 1].map(|at| &rig.topology.reals[at]);
    let first = start(one);
    let _second = start(two);
    let serve = Serve::start(rig.lbctl(), &config(&checked(VIP, "type = \"quic\"")));
    let becomes = |real: &str, health, why: &str| becomes(&serve, &rig, VIP, real, health, why);
    for real in REALS {
        becomes(real, Health::Healthy, "Version Negotiation");
    }
    drop(first);
    becomes(REALS[0], Health::Unhealthy, "ICMP port unreachable");
    // Something else has its port, and takes what it gets.
    let mute = one.ns.bind(|| UdpSocket::bind("10.200.1.1:443")).expect("a port");
    becomes(REALS[0], Health::Unhealthy, "no Version Negotiation in 300ms");
    drop(mute);
    let _first = start(one);
    becomes(REALS[0], Health::Healthy, "Version Negotiation");
}

/// Keys and certificates of an authority, in files.
struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("it is right");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let folder = tempfile::tempdir().expect("a folder");
        let signed = params.self_signed(&key).expect("a certificate");
        std::fs::write(folder.path().join("ca"), signed.pem()).expect("write a certificate");
        Self { folder, issuer: Issuer::new(params, key) }
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// A server with a certificate that expires at the end of a year.
    fn server(&self, real: &Node, year: i32) -> Server {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["www.example".to_owned()]).expect("right");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 12, 31);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let [cert_file, key_file] =
            ["cert", "key"].map(|what| self.file(&format!("{}-{year}-{what}", real.name)));
        std::fs::write(&cert_file, certificate.pem()).expect("write a certificate");
        std::fs::write(&key_file, key.serialize_pem()).expect("write a key");
        let arguments =
            ["s_server", "-quiet", "-accept", "443", "-cert", &cert_file, "-key", &key_file];
        // It ends as soon as its input does.
        let mut command = real.ns.command("openssl");
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Server(command.spawn().expect("openssl is installed (make setup)"))
    }
}

#[test]
fn tls_with_a_certificate_that_has_expired() {
    const VIP: &str = "tcp://10.200.1.1:443";
    let authority = Authority::new();
    let rig = Rig::new(2);
    let [one, two] = [0, 1].map(|at| &rig.topology.reals[at]);
    let _second = authority.server(two, 2090);
    let first = authority.server(one, 2021);
    let check = format!(
        "type = \"tls\", server_name = \"www.example\", verify = true, ca_file = \"{}\"",
        authority.file("ca")
    );
    let serve = Serve::start(rig.lbctl(), &config(&checked(VIP, &check)));
    let becomes = |real: &str, health, why: &str| becomes(&serve, &rig, VIP, real, health, why);
    becomes(REALS[0], Health::Unhealthy, "handshake: certificate expired 2021-12-31");
    becomes(REALS[1], Health::Healthy, "TLSv1.3");
    let days = || {
        let (_, page) = get(&rig.topology.balancer.ns, METRICS, "/metrics").expect("metrics");
        let name = format!("l4lb_check_certificate_days{{vip=\"{VIP}\"}} ");
        let value = page.lines().find_map(|line| line.strip_prefix(&name)).map(str::parse::<f64>);
        value.map(|days| days.expect("a number"))
    };
    // It is the first of the VIP's certificates that counts.
    let known = wait_until(PATIENCE, || days().is_some_and(|days| days < -1000.0));
    assert!(known, "{:?} days", days());
    drop(first);
    let _first = authority.server(one, 2089);
    becomes(REALS[0], Health::Healthy, "TLSv1.3");
    let known = wait_until(PATIENCE, || days().is_some_and(|days| days > 1000.0));
    assert!(known, "{:?} days", days());
}

/// A program, in a folder.
fn program(folder: &Path, text: &str) -> String {
    let path = folder.join("program");
    std::fs::write(&path, text).expect("write a program");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
        .expect("make it executable");
    path.display().to_string()
}

/// A program is told what it needs to know, and nothing else.
#[test]
fn exec() {
    const VIP: &str = "tcp://10.200.1.1:80";
    let rig = Rig::new(2);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().display();
    let text = format!(
        "#!/bin/sh
         env >{path}/env.$L4LB_REAL.$$
         mv {path}/env.$L4LB_REAL.$$ {path}/env.$L4LB_REAL
         echo \"$1 of $L4LB_REAL\"
         [ ! -e {path}/hangs ] || [ $L4LB_REAL != 10.0.0.1 ] || sleep 60
         [ ! -e {path}/sick ] || [ $L4LB_REAL != 10.0.0.1 ] || exit 3
        "
    );
    let program = program(folder.path(), &text);
    let check = format!("type = \"exec\", program = \"{program}\", args = [\"the disk\"]");
    let lbctl = rig.lbctl().env("SECRET", "of the operator");
    // Programs start late on a machine that does much else.
    let config = config(&checked(VIP, &check)).replace("timeout = \"300ms\"", "timeout = \"3s\"");
    let serve = Serve::start(
        lbctl,
        &config.replace("interval = \"300ms\"", "interval = \"3s\", fast_interval = \"3s\""),
    );
    let becomes = |real: &str, health, why: &str| becomes(&serve, &rig, VIP, real, health, why);
    for real in REALS {
        becomes(real, Health::Healthy, &format!("exit code 0: the disk of {real}"));
        let seen = std::fs::read_to_string(folder.path().join(format!("env.{real}")));
        let seen = seen.expect("the program has run");
        // What the shell sets by itself is left out.
        let mut seen: Vec<_> = seen
            .lines()
            .filter(|line| {
                !["PWD=", "SHLVL=", "_=", "OLDPWD="].iter().any(|own| line.starts_with(own))
            })
            .filter(|line| !line.starts_with("PATH="))
            .collect();
        seen.sort_unstable();
        let real = format!("L4LB_REAL={real}");
        let wanted = [
            "L4LB_PORT=80",
            "L4LB_PROTOCOL=tcp",
            &real,
            "L4LB_TIMEOUT=3",
            "L4LB_VIP=tcp://10.200.1.1:80",
            "L4LB_VIP_ADDRESS=10.200.1.1",
            "L4LB_VIP_PORT=80",
        ];
        assert_eq!(seen, wanted);
    }
    let (sick, hangs) = (folder.path().join("sick"), folder.path().join("hangs"));
    std::fs::write(&sick, "").expect("make it sick");
    becomes(REALS[0], Health::Unhealthy, "exit code 3: the disk of 10.0.0.1");
    std::fs::remove_file(&sick).expect("make it well");
    becomes(REALS[0], Health::Healthy, "exit code 0");
    std::fs::write(&hangs, "").expect("make it hang");
    becomes(REALS[0], Health::Unhealthy, "no end of the program in 3s");
    assert_eq!(serve.count("real 10.0.0.2 is unhealthy"), 0, "{}", serve.running.stderr());
}

/// Silence is a failure unless told otherwise, and an ICMP error always is.
#[test]
fn udp() {
    const ANSWERS: &str = "udp://10.200.1.1:7000";
    const SILENT: &str = "udp://10.200.1.2:7000";
    let rig = Rig::new(2);
    let addresses = ["10.200.1.1:7000", "10.200.1.2:7000"].map(|address| {
        let address: SocketAddr = address.parse().expect("an address");
        address
    });
    let echo = |real: &Node| UdpEcho::start(&real.ns, &real.name, &addresses);
    let [one, two] = [0, 1].map(|at| &rig.topology.reals[at]);
    let first = echo(one);
    let _second = echo(two);
    let asks = "type = \"udp\", send = \"well?\", expect = \"real\"";
    let vips = [checked(ANSWERS, asks), checked(SILENT, &format!("{asks}, silence_ok = true"))];
    let serve = Serve::start(rig.lbctl(), &config(&vips.concat()));
    let becomes =
        |vip: &str, real: &str, health, why: &str| becomes(&serve, &rig, vip, real, health, why);
    for vip in [ANSWERS, SILENT] {
        for real in REALS {
            becomes(vip, real, Health::Healthy, "answer of");
        }
    }
    // Nobody listens.
    drop(first);
    for vip in [ANSWERS, SILENT] {
        becomes(vip, REALS[0], Health::Unhealthy, "ICMP port unreachable");
    }
    for _ in 0..10 {
        let answer = udp_ask(rig.client(), addresses[0], "who?").expect("the other real answers");
        assert_eq!(answer, "real2:who?");
    }
    // Somebody listens, and does not answer.
    let mute = addresses.map(|address| one.ns.bind(|| UdpSocket::bind(address)).expect("a port"));
    becomes(ANSWERS, REALS[0], Health::Unhealthy, "no answer in 300ms");
    becomes(SILENT, REALS[0], Health::Healthy, "");
    drop(mute);
    // Somebody answers something else.
    let stranger = UdpEcho::start(&one.ns, "stranger", &addresses);
    for vip in [ANSWERS, SILENT] {
        becomes(vip, REALS[0], Health::Unhealthy, "the answer does not begin as expected");
    }
    drop(stranger);
    let _first = echo(one);
    for vip in [ANSWERS, SILENT] {
        becomes(vip, REALS[0], Health::Healthy, "answer of");
    }
}
