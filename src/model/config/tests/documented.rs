//! What pages and example files show is right.

use crate::model::config::Config;
use crate::model::config::PacketsConfig;

#[test]
fn limits_in_the_reference_are_those_of_the_code() {
    use crate::model::abi::consts;
    let text = include_str!("../../../../docs/config.md");
    for limit in [
        format!("At most {}.", consts::MAX_INTERFACES),
        format!("at most {}, with at most {}", consts::MAX_VIPS, consts::MAX_VIP_REALS),
        format!("at most {} different", consts::MAX_REALS),
        format!("At most {}. The format", consts::MAX_SERVER_IDS),
        format!("up to {}.", crate::model::config::MAX_WEIGHT),
        format!("up to {}, shared", crate::model::config::MAX_TABLE_ENTRIES),
        format!("a table of {} flows", crate::model::connection_tables::SHARED_TABLE_ENTRIES),
        format!(
            "| echo reply | {0} | {1} × {0} |",
            consts::ECHOES_PER_SOURCE,
            consts::ANSWER_BUCKETS
        ),
        format!(
            "| \"too big\" | {} | {} |",
            consts::ERRORS_PER_SOURCE,
            crate::plan::TOO_BIG_REPLIES_PER_SECOND
        ),
        format!(
            "| refusal | shares the {} with \"too big\" | {} |",
            consts::ERRORS_PER_SOURCE,
            consts::REFUSALS_PER_SECOND
        ),
        format!("{} to {}", PacketsConfig::MAX_FRAME.start(), PacketsConfig::MAX_FRAME.end()),
    ] {
        assert!(text.contains(&limit), "{limit}");
    }
}

#[test]
fn the_example_of_the_reference_parses() {
    let text = include_str!("../../../../docs/config.md");
    let (_, example) = text.split_once("```toml\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let config = Config::from_toml(example).unwrap();
    assert_eq!(config.vips[0].reals.len(), 2);
}

#[test]
fn the_example_file_parses() {
    let example = include_str!("../../../../examples/l4lb.toml");
    let config = Config::from_toml(example).unwrap();
    assert_eq!(config.vips.len(), 2);
}

/// Every configuration that a page shows can be applied as it stands.
#[test]
fn configurations_in_the_documentation_parse() {
    let mut blocks = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for block in text.split("\n```toml").skip(1) {
            let (_, block) = block.split_once('\n').unwrap();
            let (block, _) = block.split_once("\n```").unwrap();
            if block.starts_with("# Cargo.toml\n") {
                continue;
            }
            let parsed = Config::from_toml(block);
            assert!(parsed.is_ok(), "{}: {}\n{block}", page.display(), parsed.unwrap_err());
            blocks += 1;
        }
    }
    assert!(blocks >= 3, "{blocks} blocks of TOML");
}

/// The README and the pages in docs/.
pub(in crate::model::config) fn pages() -> Vec<std::path::PathBuf> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = pages.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    std::iter::once(root.join("README.md")).chain(pages).collect()
}
