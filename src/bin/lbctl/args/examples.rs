//! Examples of every command. A test parses them.

/// What is typed, and how it is used.
type Examples = (&'static str, &'static [&'static str]);

pub(super) const EXAMPLES: &[Examples] = &[
    ("check", &["lbctl check", "lbctl check -f lb.toml"]),
    ("plan", &["lbctl plan", "lbctl plan -f lb.toml"]),
    ("apply", &["lbctl apply", "lbctl apply -f lb.toml --yes", "generate | lbctl apply -f -"]),
    ("serve", &["lbctl serve", "lbctl serve --instance blue -f /etc/l4lb/blue.toml"]),
    ("reload", &["lbctl reload"]),
    ("save", &["lbctl save", "lbctl save --json"]),
    ("down", &["lbctl down --instance blue"]),
    ("vip list", &["lbctl vip list", "lbctl vip list --json"]),
    (
        "vip add",
        &["lbctl vip add tcp://10.200.1.1:80", "lbctl vip add udp://[fc00:1::1]:443 --check web"],
    ),
    ("vip edit", &["lbctl vip edit tcp://10.200.1.1:80 --encapsulation gue"]),
    ("vip delete", &["lbctl vip delete tcp://10.200.1.1:80 tcp://10.200.1.1:443"]),
    ("real list", &["lbctl real list", "lbctl real list tcp://10.200.1.1:80"]),
    ("real add", &["lbctl real add tcp://10.200.1.1:80 10.0.3.1 10.0.3.2 --weight 2"]),
    (
        "real edit",
        &[
            "lbctl real edit tcp://10.200.1.1:80 10.0.3.1 --encapsulation gue",
            "lbctl real edit --all 10.0.3.1 --encapsulation default",
        ],
    ),
    (
        "real delete",
        &["lbctl real delete tcp://10.200.1.1:80 10.0.3.1", "lbctl real delete --all 10.0.3.1"],
    ),
    (
        "real weight",
        &["lbctl real weight tcp://10.200.1.1:80 10.0.3.1 5", "lbctl real weight --all 10.0.3.1 5"],
    ),
    (
        "real drain",
        &[
            "lbctl real drain tcp://10.200.1.1:80 10.0.3.1 10.0.3.2",
            "lbctl real drain --all 10.0.3.1 --wait --timeout 10m --then down",
        ],
    ),
    ("real undrain", &["lbctl real undrain --all 10.0.3.1"]),
    ("real down", &["lbctl real down tcp://10.200.1.1:80 10.0.3.1"]),
    ("real up", &["lbctl real up --all 10.0.3.1"]),
    (
        "real health",
        &[
            "lbctl real health tcp://10.200.1.1:80 10.0.3.1 unhealthy --reason 'disk full' --for 1h",
            "lbctl real health --all 10.0.3.1 auto",
        ],
    ),
    ("batch", &["lbctl batch -f changes", "echo 'real drain --all 10.0.3.1' | lbctl batch -f -"]),
    ("node drain", &["lbctl node drain", "lbctl node drain --no-wait"]),
    ("node undrain", &["lbctl node undrain"]),
    ("decap attach", &["lbctl decap attach eth0 --from 172.16.0.0/16 --from 100::/64"]),
    ("decap serve", &["lbctl decap serve eth0 --from 172.16.0.0/16"]),
    ("decap reload", &["lbctl decap reload eth0"]),
    ("decap detach", &["lbctl decap detach eth0", "lbctl decap detach"]),
    ("decap status", &["lbctl decap status"]),
    ("chain list", &["lbctl chain list"]),
    (
        "chain insert",
        &[
            "lbctl chain insert 4 filter.bpf.o",
            "lbctl chain insert 4 filter.bpf.o --interface eth0",
        ],
    ),
    ("chain remove", &["lbctl chain remove filter"]),
    ("chain move", &["lbctl chain move filter 5"]),
    ("status", &["lbctl status", "lbctl status --check && echo well"]),
    ("top", &["lbctl top", "lbctl top --interval 5"]),
    ("stats", &["lbctl stats", "lbctl stats --watch 5"]),
    (
        "flows list",
        &[
            "lbctl flows list --vip tcp://10.200.1.1:80 --older-than 15m",
            "lbctl flows list --client 192.0.2.0/24 --state stale",
        ],
    ),
    (
        "flows find",
        &[
            "lbctl flows find tcp://10.200.1.1:80 192.0.2.1:31337",
            "lbctl flows find tcp 192.0.2.1:31337 10.200.1.1:80",
        ],
    ),
    ("flows delete", &["lbctl flows delete --real 10.0.3.1", "lbctl flows delete --all"]),
    ("flows count", &["lbctl flows count --by real"]),
    (
        "dump",
        &[
            "lbctl dump -i eth0 tcp port 80",
            "lbctl dump --at exit --verdict drop -e -c 10",
            "lbctl dump --at both -w packets.pcapng",
        ],
    ),
    (
        "trace",
        &[
            "lbctl trace tcp://10.200.1.1:80 192.0.2.1:31337 --syn",
            "lbctl trace --pcap packets.pcapng --packet 7",
        ],
    ),
    ("instances", &["lbctl instances", "lbctl instances --json"]),
    ("doctor", &["lbctl doctor", "lbctl doctor -f lb.toml", "lbctl doctor --real"]),
    (
        "probe",
        &[
            "lbctl probe tcp://10.200.1.1:80",
            "lbctl probe tcp://10.200.1.1:80 10.0.3.1 --type http --via direct",
            "lbctl probe udp://10.200.1.2:53 --type dns --name www.example.org",
        ],
    ),
    ("test", &["lbctl test cases.json"]),
    ("lab", &["lbctl lab"]),
    ("lab check", &["lbctl lab check", "lbctl lab check 3"]),
    ("lab run", &["lbctl lab run 'balancer lbctl status'"]),
    ("version", &["lbctl version", "lbctl version --json"]),
    ("completions", &["lbctl completions bash", "lbctl completions fish | source"]),
];
