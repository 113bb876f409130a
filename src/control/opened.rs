//! VIPs that a change leaves with too few healthy reals.

use crate::model::address::Vip;
use crate::model::config::MinHealthy;
use crate::model::vip_table::Table;
use crate::model::vip_table::VipSpec;

/// Warnings about VIPs that fail open with a change, and did not before. `wanted` has what was found about its reals.
pub(crate) fn warnings<'a>(
    running: impl Fn(&Vip) -> Option<&'a VipSpec>,
    wanted: &Table,
) -> Vec<String> {
    let opened = wanted.vips.iter().filter(|(vip, spec)| {
        spec.fails_open() && running(vip).is_some_and(|before| !before.fails_open())
    });
    let warning = opened.map(|(vip, spec)| {
        let (well, all) = spec.doing_well();
        let min: MinHealthy = spec.health.min_healthy;
        format!(
            "{vip} fails open with this change: {well} of {all} reals are healthy, and min_healthy is {min}, so flows go \
             to unhealthy reals, too; wait until more are healthy, keep others up, or lower min_healthy"
        )
    });
    warning.collect()
}

#[cfg(test)]
mod tests {
    use super::Table;
    use crate::model::config::Config;
    use crate::model::health::Health;

    #[test]
    fn a_change_that_makes_a_vip_fail_open_is_told() {
        let table = |min: &str, down: &str| {
            let text = format!(
                "[[interfaces]]\nname = \"eth0\"\n[[vips]]\naddress = \"10.200.1.1\"\nport = 80\nprotocol = \"tcp\"\n\
                 check = {{ type = \"tcp\" }}\nmin_healthy = {min}\nreals = [{{ address = \"10.0.0.1\" }}, \
                 {{ address = \"10.0.0.2\"{down} }}, {{ address = \"10.0.0.3\" }}]\n"
            );
            let mut table = Table::from(&Config::from_toml(&text).expect("a configuration"));
            let spec = table.vips.values_mut().next().expect("a VIP");
            let sick = "10.0.0.3".parse().expect("an address");
            spec.reals.get_mut(&sick).expect("a real").health.state = Health::Unhealthy;
            table
        };
        let running = table("1", "");
        let warnings =
            |before: &Table, wanted: &Table| super::warnings(|vip| before.vips.get(vip), wanted);
        assert_eq!(warnings(&running, &table("1", "")), Vec::<String>::new());
        assert_eq!(warnings(&running, &table("2", "")), Vec::<String>::new());
        for (min, down, says) in [
            ("3", "", "2 of 3 reals are healthy, and min_healthy is 3,"),
            ("\"80%\"", "", "2 of 3 reals are healthy, and min_healthy is 80%,"),
            ("2", ", state = \"drain\"", "1 of 2 reals are healthy, and min_healthy is 2,"),
        ] {
            let told = warnings(&running, &table(min, down));
            assert!(told.len() == 1 && told[0].contains(says), "{min} {down}: {told:?}");
            // It is no news the second time.
            assert!(warnings(&table(min, down), &table(min, down)).is_empty());
        }
    }
}
