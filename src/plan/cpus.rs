//! CPUs that lack a connection table, and tables that no CPU uses.

use crate::model::connection_tables::SHARED_TABLE_ENTRIES;
use crate::model::host::cpus_in_words;
use crate::model::table_cpus::TableCpus;

const SHARE_OUT: &str = "'lbctl apply', or a reload of 'lbctl serve', shares the tables out again";

/// Warns about CPUs that receive packets and have no table, and about tables of CPUs that receive none.
pub(crate) fn warnings(cpus: &TableCpus) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(missing) = cpus.without_table() {
        let remedy = if cpus.auto { SHARE_OUT.to_owned() } else { missing.remedy() };
        warnings
            .push(format!("{missing}: flows there share one of {SHARED_TABLE_ENTRIES}; {remedy}"));
    }
    let idle = cpus.idle();
    // If the configuration names the CPUs, the operator may have reasons.
    if cpus.auto && !idle.is_empty() {
        warnings.push(format!(
            "the connection tables of {} are idle, because these CPUs serve no receive queue any more; {SHARE_OUT}",
            cpus_in_words(&idle)
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn warnings_say_what_to_do() {
        let set = |cpus: &[u32]| cpus.iter().copied().collect::<BTreeSet<_>>();
        let warn = |auto, tables: &[u32], receiving: &[u32]| {
            warnings(&TableCpus { auto, tables: set(tables), receiving: set(receiving) })
        };

        assert!(warn(true, &[0, 1], &[0, 1]).is_empty());
        assert!(warn(false, &[0, 1, 2], &[0]).is_empty(), "whoever names CPUs may have reasons");
        let one = warn(false, &[0], &[0, 1]).join("\n");
        assert!(one.starts_with("CPU 1 may receive packets, but has no connection table"), "{one}");
        assert!(one.contains("add it to connection_table.cpus, or write \"auto\""), "{one}");
        let several = warn(true, &[0], &[0, 1, 2, 5]).join("\n");
        assert!(several.starts_with("CPUs 1,2,5 may receive packets, but have no"), "{several}");
        assert!(several.contains("'lbctl apply'"), "{several}");
        let idle = warn(true, &[0, 1, 2], &[0]).join("\n");
        assert!(idle.contains("of CPUs 1,2 are idle") && idle.contains("'lbctl apply'"), "{idle}");
    }
}
