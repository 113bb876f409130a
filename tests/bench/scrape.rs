//! How long the metrics take: a scrape, as `lbctl serve` answers it, and what a background thread reads for it.

use std::hint::black_box;

use l4lb::Balancer;
use l4lb::Config;
use l4lb::metrics::Collector;
use prometheus::Registry;
use prometheus::TextEncoder;

use crate::Result;
use crate::args::Control;
use crate::args::Filter;
use crate::control::row;
use crate::control::time;
use crate::control::vip;
use crate::lab::Lab;
use crate::lab::interface;
use crate::lab::vip_with;
use crate::report::Section;

/// Scrapes in a round.
const SCRAPES: u32 = 10;

/// Measures what the filter names.
pub(crate) fn measure(
    lab: &Lab<'_>,
    effort: Control,
    filter: &Filter,
    section: &mut Section,
) -> Result {
    const RINGS: &str = "background-rings";
    const TABLES: &str = "background-tables";
    let few = |number: u16| {
        let [high, low] = number.to_be_bytes();
        let reals = 1 + number * 8..=number * 8 + 8;
        vip_with(&format!("tcp://10.200.{}.{low}:80", 1 + high), reals)
    };
    let many = |number| vip(number, effort.reals, false);
    let of_all = |vip: &dyn Fn(u16) -> String| (0..effort.vips).map(vip).collect::<String>();
    let scrapes = [
        ("scrape", format!("a scrape: {} reals, 8 to each VIP", effort.vips * 8), of_all(&few)),
        ("scrape-pairs", format!("a scrape: {} reals to each VIP", effort.reals), of_all(&many)),
    ];
    if ![scrapes[0].0, scrapes[1].0, RINGS, TABLES].iter().any(|name| filter.has(name)) {
        return Ok(());
    }
    eprintln!("scrape");
    let link = lab.link("scrape");
    let instance = lab.instance("scrape")?;
    let config = |vips: &str| {
        let entries = format!("[connection_table]\nentries = {}\n", effort.counted_entries);
        Config::from_toml(&format!("{}{entries}{vips}", interface(&link.near)))
    };
    for (name, what, vips) in &scrapes {
        Balancer::apply(&instance, &config(vips)?)?;
        let registry = Registry::new();
        registry.register(Box::new(Collector::new(instance.clone())))?;
        let scrape =
            || -> Result<String> { Ok(TextEncoder::new().encode_to_string(&registry.gather())?) };
        // This scrape starts the background thread; the next ones must not.
        let mut text = scrape()?;
        while !text.contains("l4lb_ring_sample_age") || !text.contains("l4lb_table_sample_age") {
            text = scrape()?;
        }
        let all = || {
            for _ in 0..SCRAPES {
                black_box(scrape()?);
            }
            Ok(())
        };
        let took = (0..effort.rounds).map(|_| Ok(time(SCRAPES, all)?.1));
        let series = text.lines().filter(|line| !line.starts_with('#')).count();
        let what = format!("{what}; {series} series, {} kB", text.len() / 1000);
        row(section, name, &what, &took.collect::<Result<Vec<_>>>()?);
    }
    let balancer = Balancer::open(&instance)?;
    let took = (0..effort.rounds).map(|_| Ok(time(1, || Ok(balancer.running_rings()?))?.1));
    row(section, RINGS, "reading and digesting all rings", &took.collect::<Result<Vec<_>>>()?);
    let read = || Ok((balancer.table_status()?, balancer.map_memory()?));
    let took = (0..effort.rounds).map(|_| Ok(time(1, read)?.1));
    let what = format!(
        "counting connection tables of {} entries, and the memory of all maps",
        effort.counted_entries
    );
    row(section, TABLES, &what, &took.collect::<Result<Vec<_>>>()?);
    Balancer::down(&instance)?;
    section.note(format!(
        "scrape…, background-…: {} VIPs; reading, summing and writing the text, without the network.",
        effort.vips
    ));
    Ok(())
}
