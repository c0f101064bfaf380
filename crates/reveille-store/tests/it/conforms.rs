//! Every part of the conformance suite, each as a test of its own, on every adapter.

macro_rules! parts {
    ($($part:ident)*) => {
        const PARTS: &[&str] = &[$(stringify!($part)),*];

        mod on_sqlite {
            $(
                #[tokio::test]
                async fn $part() {
                    reveille_store::conformance::$part(&crate::folder::SqliteBench).await;
                }
            )*
        }

        mod on_postgres {
            $(
                #[tokio::test]
                async fn $part() {
                    reveille_store::conformance::$part(&crate::postgres::PostgresBench).await;
                }
            )*
        }
    };
}
reveille_store::each_part_of_store_conformance!(parts);

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
