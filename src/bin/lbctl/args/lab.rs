//! `lbctl lab`

use clap::Args;
use clap::Subcommand;
use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;
use ipnet::Ipv4Net;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Lab {
    #[command(subcommand)]
    pub(crate) command: Option<LabCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LabCommand {
    /// Run lessons in a lab of their own, and say whether each went as its text says; without a number, all
    Check {
        /// 1 to 8
        #[arg(value_name = "LESSON", value_parser = clap::value_parser!(u8).range(1..=8))]
        lessons: Vec<u8>,
    },
    /// Run one command of the lab's shell in a lab of its own
    Run {
        /// Such as 'balancer lbctl status'
        command: String,
    },
    /// What a host of the lab does
    #[command(flatten)]
    Host(HostCommand),
}

/// What the lab's own scripts call, on its hosts.
#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// Answer HTTP at port 80 with a name
    #[command(hide = true)]
    Web {
        /// The name
        name: String,
    },
    /// Request the page, each time by a connection of its own, and count who answers
    #[command(hide = true)]
    Ask {
        /// 1 to 100000
        #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
        requests: u32,
    },
    /// Begin 2000 connections a second, and leave them
    #[command(hide = true)]
    Flood {
        /// 1 to 60
        #[arg(value_parser = RangedU64ValueParser::<u64>::new().range(1..=60))]
        seconds: u64,
    },
    /// Keep connections busy
    #[command(hide = true)]
    Talk {
        /// 1 to 500
        #[arg(value_parser = clap::value_parser!(u32).range(1..=500))]
        connections: u32,
        /// 1 to 60
        #[arg(value_parser = RangedU64ValueParser::<u64>::new().range(1..=60))]
        seconds: u64,
    },
    /// Put a network on the list of `drop_list`, and say how many packets it dropped
    #[command(hide = true)]
    Block {
        /// Such as 192.168.1.0/24
        network: Option<Ipv4Net>,
    },
    /// Write what the lab is made of to standard output
    #[command(hide = true)]
    Print {
        /// Which file
        #[arg(value_enum)]
        file: LabFile,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LabFile {
    /// `docs/lab.md`
    Lessons,
    /// `examples/chain/drop_list.bpf.c`, compiled
    DropList,
}
