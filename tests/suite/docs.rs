//! The documentation: the commands of docs/install.md do what the page says, and links lead somewhere.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::fixtures::Bpffs;
use super::fixtures::HttpServer;
use super::fixtures::NetNs;

mod ways;

const PAGE: &str = "docs/install.md";
const REALS: u8 = 3;

/// What a block's first line says behind the backquotes: `sh run-on=balancer`.
struct Block {
    info: String,
    text: String,
}

impl Block {
    fn all(page: &str) -> Vec<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
        Self::of(&fs::read_to_string(path).expect(page))
    }

    /// The blocks of a page, or of a part of it.
    fn of(text: &str) -> Vec<Self> {
        let mut blocks = Vec::new();
        let mut lines = text.lines();
        while let Some(info) = lines.find_map(|line| line.strip_prefix("```")) {
            let text: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(Self { info: info.to_owned(), text: text.join("\n") });
        }
        blocks
    }

    /// The value behind `key=`.
    fn option(&self, key: &str) -> Option<&str> {
        self.info.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }
}

/// A host of the page: its namespace, its pins, its `/etc`, and an `lbctl` that uses them.
struct Host {
    name: String,
    ns: NetNs,
    bpffs: Bpffs,
    files: TempDir,
}

impl Host {
    fn new(name: &str) -> Self {
        let files = tempfile::tempdir().expect("a folder");
        for folder in ["bin", "etc/l4lb", "etc/sysctl.d"] {
            fs::create_dir_all(files.path().join(folder)).expect(folder);
        }
        Self { name: name.to_owned(), ns: NetNs::new(), bpffs: Bpffs::new(), files }
    }

    /// Runs what a block says, with `/etc` in a folder of this host's own. Returns what was printed.
    fn run(&self, block: &str) -> String {
        let etc = self.files.path().join("etc");
        let block = block.replace("/etc/", &format!("{}/", etc.display()));
        let lbctl = env!("CARGO_BIN_EXE_lbctl");
        let bpffs = self.bpffs.text();
        let script = format!("set -eu\nlbctl() {{ {lbctl} --bpffs {bpffs} \"$@\"; }}\n{block}\n");
        let output = self.ns.command("sh").args(["-c", &script]).output().expect("run sh");
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let Self { name, .. } = self;
        assert!(output.status.success(), "on {name}:\n{block}\n{stdout}{stderr}");
        stdout
    }
}

/// The network that the page begins with, before any of its steps: MTUs are 1500, no VIP is routed.
fn network() -> Vec<Host> {
    let names = ["router", "client", "balancer"].map(str::to_owned);
    let names = names.into_iter().chain((1..=REALS).map(|n| format!("real{n}")));
    let hosts: Vec<_> = names.map(|name| Host::new(&name)).collect();
    let router = &hosts[0];
    router.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    for host in &hosts[1..] {
        let (v4, v6) = match host.name.as_str() {
            "client" => ("192.168.1.2".to_owned(), "fc00:2::2".to_owned()),
            "balancer" => ("172.31.0.2".to_owned(), "fc00:31::2".to_owned()),
            real => {
                let number = &real["real".len()..];
                (format!("10.0.{number}.1"), format!("fc00:0:0:{number}::1"))
            }
        };
        let gateway4 = format!("{}.254", v4.rsplit_once('.').expect("an address").0);
        let gateway6 = format!("{}::fe", v6.rsplit_once("::").expect("an address").0);
        let (end, ns) = (format!("to-{}", host.name), host.ns.path());
        router.run(&format!(
            "ip link add {end} type veth peer name eth0 netns {}\n\
             ip address add {gateway4}/24 dev {end}\n\
             ip address add {gateway6}/64 dev {end} nodad\n\
             ip link set {end} up",
            ns.display()
        ));
        host.run(&format!(
            "ip address add {v4}/24 dev eth0\n\
             ip address add {v6}/64 dev eth0 nodad\n\
             ip link set eth0 up\n\
             ip route add default via {gateway4}\n\
             ip route add default via {gateway6}"
        ));
    }
    hosts
}

/// What differs from real to real.
fn for_real(block: &str, name: &str) -> String {
    let number = name.trim_start_matches("real");
    block
        .replace("10.0.1.", &format!("10.0.{number}."))
        .replace("0:0:1::", &format!("0:0:{number}::"))
}

#[test]
fn the_steps_of_the_page_set_up_a_balancer() {
    let hosts = network();
    let servers: Vec<_> = hosts
        .iter()
        .filter(|host| host.name.starts_with("real"))
        .map(|host| HttpServer::start(&host.ns, &host.name, 80))
        .collect();
    let mut printed = String::new();
    let mut ran = Vec::new();
    for block in Block::all(PAGE) {
        if let Some(file) = block.option("file") {
            let balancer = hosts.iter().find(|host| host.name == "balancer").expect("it is there");
            let path = balancer.files.path().join("etc/l4lb").join(file);
            fs::write(path, &block.text).expect(file);
        }
        let Some(place) = block.option("run-on") else { continue };
        // "real1" stands for each real, with its own addresses.
        let on_reals = place.starts_with("real");
        for host in &hosts {
            if on_reals && host.name.starts_with("real") {
                let _ = write!(printed, "{}", host.run(&for_real(&block.text, &host.name)));
            } else if host.name == place {
                let _ = write!(printed, "{}", host.run(&block.text));
            }
        }
        ran.push(place.to_owned());
    }
    for place in ["real", "real1", "router", "balancer", "client"] {
        assert!(ran.iter().any(|one| one == place), "no block runs on {place}: {ran:?}");
    }
    // The client asked twice, and reals answered.
    let answers: usize = servers.iter().map(HttpServer::requests).sum();
    assert!(answers >= 2, "{answers} answers\n{printed}");
    assert!(printed.contains("instance default: well"), "{printed}");
}

/// What GitHub calls a heading in a link: small letters, no punctuation, hyphens for spaces.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).expect("a page");
    text.lines().filter(|line| line.starts_with('#')).map(anchor).collect()
}

#[test]
fn links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs =
        fs::read_dir(root.join("docs")).expect("docs").map(|entry| entry.expect("docs").path());
    let pages = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let pages: Vec<_> = ["README.md", "CHANGELOG.md"]
        .map(|name| root.join(name))
        .into_iter()
        .chain(pages)
        .collect();
    let mut wrong = Vec::new();
    for page in &pages {
        let text = fs::read_to_string(page).expect("a page");
        let folder = page.parent().expect("a folder");
        let links = text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
        for link in links.filter(|link| !link.contains("://")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { folder.join(file) };
            let found = target.exists()
                && (heading.is_empty() || anchors(&target).iter().any(|one| one == heading));
            if !found {
                wrong.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The index has every page.
    let index = fs::read_to_string(root.join("docs/README.md")).expect("the index");
    for page in &pages {
        let name = page.file_name().and_then(|name| name.to_str()).expect("a name");
        assert!(index.contains(name), "docs/README.md does not name {name}");
    }
}

/// Each alert leads to a section that is there, and is named after it.
#[test]
fn alerts_have_runbooks() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let rules = fs::read_to_string(docs.join("alerts.yml")).expect("the rules");
    let rules: Vec<_> = rules.split("- alert: ").skip(1).collect();
    assert!(rules.len() > 30, "{} rules", rules.len());
    let sections = anchors(&docs.join("alerts.md"));
    for rule in &rules {
        let name = rule.lines().next().expect("a name");
        let url = rule.lines().find_map(|line| line.trim().strip_prefix("runbook_url: "));
        let expected = name.to_lowercase();
        assert_eq!(url, Some(format!("\"docs/alerts.md#{expected}\"").as_str()), "{name}");
        assert!(sections.contains(&expected), "docs/alerts.md has no section {name}");
    }
    // No section is left of a rule that is gone.
    assert_eq!(sections.len(), rules.len() + 1, "{sections:?}");
}

/// Files of the project that a page names are where it says.
#[test]
fn paths_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs =
        fs::read_dir(root.join("docs")).expect("docs").map(|entry| entry.expect("docs").path());
    let pages = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let mut wrong = Vec::new();
    for page in std::iter::once(root.join("README.md")).chain(pages) {
        let text = fs::read_to_string(&page).expect("a page");
        let spans = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
        let folders = ["src/", "include/", "bpf/", "tests/", "docs/", "examples/"];
        let named = spans.filter(|span| folders.iter().any(|folder| span.starts_with(folder)));
        for name in named.filter(|name| !name.contains(['*', '<', '{', ' '])) {
            if !root.join(name).exists() {
                wrong.push(format!("{}: {name}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
