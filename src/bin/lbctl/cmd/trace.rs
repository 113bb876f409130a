//! `lbctl trace`

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use l4lb::Balancer;
use l4lb::Instance;
use l4lb::Verdict;
use l4lb::capture::decode::describe;
use l4lb::flows::FiveTuple;
use l4lb::table_events;
use l4lb::trace::Trace;
use l4lb::trace::TraceOutcome;
use l4lb::trace::TracePacket;

use crate::Exit;
use crate::Result;
use crate::args::TraceArgs;
use crate::args::five_tuple;
use crate::output;

pub(crate) fn run(instance: &Instance, args: &TraceArgs, json: bool) -> Result {
    let balancer = Balancer::open(instance)?;
    let interface = args.interface.as_deref();
    let frame = match args.pcap.as_deref() {
        None => {
            let FiveTuple { protocol, client, destination: server } = five_tuple(&args.packet_to)?;
            let (syn, payload) = (args.syn, args.payload);
            let packet = TracePacket { protocol, client, server, syn, payload };
            match balancer.trace_mac(interface)? {
                Some(mac) => packet.frame_to(mac),
                None => packet.frame(),
            }
        }
        Some(file) if file == Path::new("-") => {
            TracePacket::read_from(io::stdin(), "standard input", args.packet)
        }
        Some(file) => TracePacket::read(file, args.packet),
    };
    let frame = frame.map_err(l4lb::Error::from)?;
    let trace = balancer.trace(interface, &frame)?;
    if json {
        output::json(&trace)?;
    } else {
        output::text(render(&trace))?;
    }
    Ok(Exit::Done)
}

fn render(trace: &Trace) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}, in by {}", describe(&trace.frame, trace.gue), trace.interface);
    if !trace.in_front.is_empty() {
        let _ = writeln!(
            text,
            "not asked, but runs before the balancer: {}",
            trace.in_front.join(", ")
        );
    }
    for outcome in &trace.outcomes {
        let cpus = outcome.cpus.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        let _ = writeln!(text);
        line(&mut text, "CPU", cpus);
        for (label, value) in lines(outcome) {
            line(&mut text, label, value);
        }
        if outcome.verdict == Verdict::Tx {
            line(&mut text, "leaves as", describe(&outcome.frame, trace.gue));
            for (n, row) in outcome.frame.chunks(16).enumerate() {
                let words: Vec<_> = row.chunks(2).map(hex::encode).collect();
                line(&mut text, "", format!("{:04x}  {}", n * 16, words.join(" ")));
            }
        }
    }
    text
}

fn line(text: &mut String, label: &str, value: impl std::fmt::Display) {
    let _ = writeln!(text, "  {label:<11} {value}");
}

fn lines(outcome: &TraceOutcome) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if let Some(vip) = outcome.vip {
        lines.push(("VIP", vip.to_string()));
    }
    if let Some(flow) = outcome.flow {
        let (source, port) = (flow.source, flow.source_port);
        let client = if source.is_ipv6() {
            format!("[{source}]:{port}")
        } else {
            format!("{source}:{port}")
        };
        lines.push(("flow", format!("from {client} to port {}", flow.destination_port)));
    }
    for name in &outcome.table {
        let help =
            table_events().iter().find(|event| event.name == *name).map_or("", |event| event.help);
        lines.push(("would count", format!("{name}: {help}")));
    }
    if let Some(id) = outcome.server_id {
        lines.push(("server id", id.to_string()));
    }
    if let Some(slot) = outcome.ring_slot {
        let real = outcome.ring_real.map_or_else(|| "no real".to_owned(), |real| real.to_string());
        lines.push(("ring", format!("slot {slot}: {real}")));
    }
    lines.push(("verdict", format!("{} ({}: {})", outcome.verdict, outcome.reason, outcome.help)));
    if let Some(real) = outcome.real {
        lines.push(("real", real.to_string()));
    }
    if let Some(around) = outcome.around {
        lines.push(("around it", around.to_string()));
    }
    lines
}
