//! Every part of the conformance suite, each as a test of its own.

use crate::folder::SqliteBench;
use reveille_store::conformance;

macro_rules! on_sqlite {
    ($($part:ident)*) => {
        const PARTS: &[&str] = &[$(stringify!($part)),*];
        $(
            #[tokio::test]
            async fn $part() {
                conformance::$part(&SqliteBench).await;
            }
        )*
    };
}
reveille_store::each_part_of_store_conformance!(on_sqlite);

#[test]
fn no_part_of_the_suite_is_left_out() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/conformance");
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let parts = text.split("\npub async fn ").skip(1);
        found.extend(parts.filter_map(|part| part.split_once('(')).map(|(name, _)| name.to_owned()));
    }
    let mut named = PARTS.to_vec();
    named.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, named);
}
