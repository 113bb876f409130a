//! The facts about the host that a plan depends on.

use crate::instance::programs;
use crate::kernel::bpf::random;
use crate::kernel::host::Files;
use crate::kernel::host::possible_cpus;
use crate::kernel::memory;
use crate::kernel::queues;
use crate::model::error::Result;
use crate::model::host::Host;
use crate::model::interface::ResolvedInterface;
use crate::model::real_way::RealFacts;
use crate::model::secret::AnswerSecret;
use crate::model::secret::Secret;

impl Host {
    /// Reads the facts that matter to a balancer on these interfaces.
    pub(crate) fn read(interfaces: &[ResolvedInterface]) -> Result<Self> {
        let files = Files::host();
        Ok(Self {
            possible_cpus: possible_cpus()?,
            receiving_cpus: queues::receiving(
                &files,
                interfaces.iter().map(ResolvedInterface::target),
            )?,
            online_cpus: files.online_cpus()?,
            nodes: files.nodes(),
            maps: programs::balancer_maps()?,
            memory: memory::available(&files),
            reals: RealFacts::default(),
            secret: Secret::of(random()?),
            answer_secret: AnswerSecret::of(random()?),
        })
    }
}
