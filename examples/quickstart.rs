//! Embeds the balancer: sets up one VIP, adds a second real, reads the counters, and leaves the balancer running.
//!
//! ```text
//! quickstart INTERFACE GATEWAY-MAC [BPFFS]
//! ```

use std::error::Error;

use l4lb::Balancer;
use l4lb::Config;
use l4lb::Instance;
use l4lb::RealSpec;
use l4lb::RealState;
use l4lb::Vip;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: quickstart INTERFACE GATEWAY-MAC [BPFFS]";
    let (interface, gateway) = arguments.next().zip(arguments.next()).ok_or(usage)?;
    let bpffs = arguments.next().unwrap_or_else(|| l4lb::DEFAULT_BPFFS.to_owned());

    // The configuration: the same text as in a file.
    let config = Config::from_toml(&format!(
        r#"
        [[interfaces]]
        name = "{interface}"
        gateway_mac = "{gateway}"

        [[vips]]
        address = "10.200.1.1"
        port = 80
        protocol = "tcp"
        reals = [ {{ address = "10.0.0.1", weight = 1 }} ]
        "#
    ))?;
    let instance = Instance::new(bpffs, "quickstart")?;
    print!("{}", Balancer::apply(&instance, &config)?);

    // From here on packets are balanced, whether this process lives or not. This changes what runs:
    let balancer = Balancer::open(&instance)?;
    let vip: Vip = "tcp://10.200.1.1:80".parse()?;
    let plan = balancer.edit(|table| {
        let spec = table.vips.get_mut(&vip).ok_or(l4lb::Error::NoSuchVip(vip))?;
        let real = RealSpec::new(2, RealState::Up);
        spec.reals.insert([10, 0, 0, 2].into(), real);
        Ok(())
    })?;
    print!("{plan}");

    let stats = balancer.stats()?;
    println!("{} packets in all", stats.total.packets);
    for (vip, count) in &stats.vips {
        println!("{vip}: {} packets sent, {} dropped", count.sent.packets, count.dropped);
    }
    for reason in stats.reasons.iter().filter(|reason| reason.count.packets != 0) {
        println!("{} {}: {}", reason.verdict, reason.reason, reason.count.packets);
    }
    Ok(())
}
