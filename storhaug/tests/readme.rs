//! The README's configuration reference is the program's.

use std::path::Path;

const BEGIN: &str = "<!-- storhaug config reference -->\n";
const END: &str = "<!-- end -->";

#[test]
fn the_readme_has_the_reference_that_the_program_prints() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(path).expect("reading the README");
    let (_, after) = readme.split_once(BEGIN).expect("the reference's beginning");
    let (committed, _) = after.split_once(END).expect("the reference's end");
    assert!(
        committed == storhaug::config::reference(),
        "put the output of `storhaug config reference` between {BEGIN} and {END} in README.md"
    );
}
