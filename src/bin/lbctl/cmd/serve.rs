//! `lbctl serve`: forwarding needs no process. This one follows the gateways, reloads and answers Prometheus.

use l4lb::Instance;
use l4lb::agent::Agent;
use l4lb::agent::Options;

use crate::Exit;
use crate::Result;
use crate::args::Serve;
use crate::cmd::config_file;
use crate::daemon::Systemd;
use crate::daemon::block_on;
use crate::daemon::control;
use crate::reader;

pub(crate) fn serve(instance: &Instance, args: &Serve) -> Result {
    let mut options = Options::default();
    options.strict = args.apply.strict;
    options.adopt = args.apply.adopt.adopt;
    options.watch = args.watch;
    let agent =
        Agent::from_file(instance, config_file::path(instance, &args.apply.file)?, options)?;
    let agent = agent.with_printer(reader::printer());
    let mut systemd = Systemd::new(instance.lock_timeout());
    block_on(async { agent.run(&control()?, |event| systemd.tell(event)).await })?;
    Ok(Exit::Done)
}
