//! `lbctl decap serve`: decapsulation needs no process. This one follows the host's addresses and answers Prometheus.

use l4lb::Instance;
use l4lb::agent::DecapAgent;
use l4lb::agent::DecapOptions;

use crate::Exit;
use crate::Result;
use crate::args::DecapServe;
use crate::daemon::Systemd;
use crate::daemon::block_on;
use crate::daemon::control;

pub(super) fn serve(instance: &Instance, args: &DecapServe) -> Result {
    let mut options = DecapOptions::default();
    options.interfaces.clone_from(&args.interfaces);
    options.mode = args.how.mode.into();
    options.request = args.asked.request();
    options.adopt = args.how.adopt.adopt;
    options.metrics = args.metrics;
    let agent = DecapAgent::new(instance, options)?;
    let mut systemd = Systemd::new(instance.lock_timeout());
    block_on(async { agent.run(&control()?, |event| systemd.tell(event)).await })?;
    Ok(Exit::Done)
}
