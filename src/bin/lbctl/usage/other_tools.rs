//! Words that users of other tools type, and what does the same here.
//!
//! They are no aliases: what another tool's word means in every detail is not promised.

/// Words in place of a command: those of `ipvsadm`, kubectl, bpftool, systemctl and other balancers' tools.
const COMMANDS: [(&[&str], &str); 30] = [
    (
        &["list", "get", "describe"],
        "'lbctl vip list' and 'lbctl real list' list, 'lbctl status' sums up",
    ),
    (&["info"], "'lbctl status' says how it is"),
    (&["ps"], "'lbctl instances' lists the instances"),
    (&["add", "create", "new"], "'lbctl vip add VIP' and 'lbctl real add VIP REAL' add one"),
    (
        &["delete", "del", "rm", "remove"],
        "'lbctl vip delete VIP' and 'lbctl real delete VIP REAL' delete one",
    ),
    (
        &["set", "edit", "modify", "weight"],
        "'lbctl real weight VIP REAL WEIGHT' changes a weight; change all else in the file, and apply it",
    ),
    (
        &["drain", "undrain", "cordon", "uncordon"],
        "'lbctl real drain VIP REAL' drains a real, 'lbctl node drain' this balancer",
    ),
    (
        &["enable", "disable"],
        "'lbctl real up VIP REAL', and 'lbctl real drain' or 'lbctl real down'",
    ),
    (
        &["health", "healthcheck", "checks"],
        "'lbctl real list' shows the health of reals, 'lbctl probe VIP' checks them now",
    ),
    (
        &["vips", "service", "services", "svc", "frontend", "frontends", "vs"],
        "a service is a VIP: 'lbctl vip list'",
    ),
    (
        &[
            "reals",
            "backend",
            "backends",
            "server",
            "servers",
            "rs",
            "pool",
            "member",
            "members",
            "endpoints",
        ],
        "a server is a real: 'lbctl real list'",
    ),
    (
        &["validate", "verify", "lint", "config", "configtest"],
        "'lbctl check -f FILE' checks a file",
    ),
    (&["diff"], "'lbctl plan -f FILE' shows what a file would change"),
    (
        &["undo", "rollback", "revert"],
        "apply the file from before: 'lbctl apply -f FILE'; 'lbctl save' prints what runs, to be kept",
    ),
    (&["export", "backup"], "'lbctl save' prints what runs, as a file"),
    (&["import", "restore"], "'lbctl apply -f FILE' makes what runs equal to a file"),
    (
        &["start", "run", "up", "daemon"],
        "'lbctl apply -f FILE' starts forwarding, 'lbctl serve' also stays and checks reals",
    ),
    (
        &["load", "attach"],
        "'lbctl apply -f FILE' loads and attaches the balancer, 'lbctl decap attach INTERFACE' a real's side",
    ),
    (
        &["stop", "unload", "detach", "flush", "uninstall"],
        "'lbctl down' ends forwarding, 'lbctl decap detach' on a real",
    ),
    (
        &["restart", "upgrade", "update"],
        "'systemctl restart l4lb@INSTANCE' restarts lbctl serve; packets are forwarded meanwhile",
    ),
    (
        &["logs", "log", "tail", "events"],
        "'journalctl -u l4lb@INSTANCE' shows the log of lbctl serve; docs/logs.md",
    ),
    (&["tcpdump", "capture", "xdpdump", "sniff", "pcap"], "'lbctl dump' captures packets"),
    (
        &["watch", "monitor", "live"],
        "'lbctl top' shows it live, 'lbctl stats --watch' prints rates",
    ),
    (
        &["counters", "metrics"],
        "'lbctl stats' shows the counters; lbctl serve answers Prometheus: docs/metrics.md",
    ),
    (
        &["connections", "conns", "conntrack", "sessions", "sess", "flow"],
        "'lbctl flows list' lists flows, 'lbctl flows find' finds one",
    ),
    (
        &["explain", "route", "lookup", "simulate"],
        "'lbctl trace VIP CLIENT:PORT' shows where a packet would go",
    ),
    (
        &["prog", "progs", "program", "programs", "map", "maps", "link"],
        "'lbctl chain list' lists the programs on the interfaces",
    ),
    (&["docs", "manual"], "'man lbctl' and 'lbctl COMMAND --help' explain the commands"),
    (&["demo", "tutorial", "learn"], "'lbctl lab' is a network to learn it in"),
    (
        &["diagnose", "troubleshoot", "debug"],
        "'lbctl status' and 'lbctl doctor' find problems, 'lbctl probe VIP' checks reals",
    ),
];

/// Options in place of a command: those of `ipvsadm`.
const IPVSADM: [(&[&str], &str); 8] = [
    (&["-A", "--add-service"], "'lbctl vip add tcp://ADDRESS:PORT' adds a VIP"),
    (&["-E", "--edit-service"], "change the VIP in the file, and apply it: 'lbctl apply -f FILE'"),
    (&["-D", "--delete-service"], "'lbctl vip delete VIP' deletes a VIP"),
    (
        &["-a", "--add-server"],
        "'lbctl real add VIP REAL' adds a server; it serves the VIP's own port",
    ),
    (
        &["-d", "-e", "--delete-server", "--edit-server"],
        "'lbctl real delete VIP REAL', 'lbctl real weight VIP REAL WEIGHT'",
    ),
    (
        &["-L", "-l", "-Ln", "--list"],
        "'lbctl real list' lists VIPs and their reals, 'lbctl flows list' connections",
    ),
    (&["-C", "--clear"], "'lbctl down' ends forwarding"),
    (
        &["-S", "-R", "--save", "--restore"],
        "'lbctl save' prints what runs as a file, 'lbctl apply -f FILE' restores it",
    ),
];

/// Arguments of single commands.
const ARGUMENTS: [(&str, &[&str], &str); 9] = [
    (
        "lbctl dump",
        &["-r", "--read"],
        "'tcpdump -nr FILE' reads what --write wrote, 'lbctl trace --pcap FILE' shows where a packet of it would go",
    ),
    (
        "lbctl vip add",
        &["--real", "--reals", "-r"],
        "'lbctl real add VIP REAL' adds reals; 'lbctl batch -f FILE' makes both one change",
    ),
    (
        "lbctl vip",
        &["set", "change", "modify"],
        "'lbctl vip edit' changes how packets go to the reals; change all else in the file, and apply it: 'lbctl apply -f FILE'",
    ),
    (
        "lbctl real",
        &["set", "change", "modify"],
        "'lbctl real weight VIP REAL WEIGHT' changes a weight, 'lbctl real edit' how packets go to it",
    ),
    (
        "lbctl real",
        &["enable", "disable"],
        "'lbctl real up', and 'lbctl real drain' or 'lbctl real down'",
    ),
    ("lbctl real weight", &["-w", "--weight"], "the weight is the last argument"),
    ("lbctl real add", &["-w"], "write --weight"),
    ("lbctl decap", &["list", "ls"], "'lbctl decap status' shows it"),
    ("lbctl flows list", &["--limit", "-n"], "pipe it into head"),
];

/// What does here what a word does elsewhere, where a command stands at this path, such as `lbctl real`.
pub(super) fn same(path: &str, word: &str) -> Option<&'static str> {
    let here = |words: &[&str]| words.contains(&word);
    if let Some((_, _, text)) = ARGUMENTS.iter().find(|(of, words, _)| *of == path && here(words)) {
        return Some(text);
    }
    let top = COMMANDS.iter().chain(&IPVSADM).find(|(words, _)| here(words));
    top.filter(|_| path == "lbctl").map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::super::command_at;
    use super::*;

    /// All entries: the path, the words, the text.
    fn entries() -> impl Iterator<Item = (&'static str, &'static [&'static str], &'static str)> {
        let top = COMMANDS.iter().chain(&IPVSADM).map(|(words, text)| ("lbctl", *words, *text));
        top.chain(ARGUMENTS)
    }

    fn at(path: &str) -> clap::Command {
        command_at(path).unwrap_or_else(|| panic!("no command '{path}'"))
    }

    #[test]
    fn no_word_is_a_command_or_option_of_its_own() {
        for (path, words, _) in entries() {
            let command = at(path);
            for word in words {
                assert!(command.find_subcommand(word).is_none(), "{path} has {word}");
                let option = word.trim_start_matches('-');
                let known = command.get_arguments().any(|argument| {
                    word.starts_with("--") && argument.get_long() == Some(option)
                        || word.len() == 2
                            && argument
                                .get_short()
                                .is_some_and(|c| word.ends_with(c) && word.starts_with('-'))
                });
                assert!(!known, "{path} has {word}");
            }
        }
    }

    #[test]
    fn a_word_has_one_meaning() {
        let mut seen = std::collections::BTreeSet::new();
        for (path, words, _) in entries() {
            for word in words {
                assert!(seen.insert((path, *word)), "{path} {word} is there twice");
            }
        }
    }

    #[test]
    fn what_is_named_exists() {
        for (_, _, text) in entries() {
            for quoted in text.split('\'').filter(|part| part.starts_with("lbctl ")) {
                let names = quoted.split(' ').skip(1);
                let path = names.take_while(|name| name.bytes().all(|b| b.is_ascii_lowercase()));
                let path = path.fold("lbctl".to_owned(), |path, name| format!("{path} {name}"));
                at(&path);
            }
        }
    }
}
