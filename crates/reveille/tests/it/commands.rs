//! Transcripts: what is typed, what is printed, and the exit code.

use crate::app::{ACCOUNT, App};
use crate::cluster::Cluster;
use crate::fleet;
use crate::folder::Folder;
use reveille_store::sqlite::Sqlite;
use serde_json::Value;
use std::fs::File;
use std::process::{Command, Stdio};

const HEADER: &str = "account,eid,iccid,network,state,suspended_by\n";

const DECLARED: &str = r#"
[[account]]
name = "0000123456-00001"
[[account.service_plan]]
name = "Verizon IoT 5MB"
network = "verizon-us"
[[account.listener]]
service = "DeviceProfileService"
url = "http://127.0.0.1:9001/callbacks"
[[client]]
key = "demo-key"
secret = "demo-secret"
[[user]]
username = "demo"
password = "demo-password"
accounts = ["0000123456-00001"]
"#;

/// What a command said.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

/// Runs the program in a folder, with nothing of this process's environment.
fn reveille(folder: &Folder, line: &str) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reveille"));
    command.args(line.split_whitespace()).current_dir(folder.path());
    command.env_clear().env("REVEILLE_LOG", "error").stdin(Stdio::null());
    let output = command.output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the program prints text");
    Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// The program's words where all went well.
fn printed(folder: &Folder, line: &str) -> String {
    let said = reveille(folder, line);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{line}: {}", said.out);
    said.out
}

fn applied() -> Folder {
    let folder = Folder::new();
    folder.write("apply.toml", DECLARED);
    printed(&folder, "apply apply.toml");
    folder
}

#[test]
fn check_says_what_a_configuration_comes_to() {
    let folder = Folder::new();
    let said = printed(&folder, "check");
    assert!(said.starts_with("configuration  valid\n"), "{said}");
    for line in [
        "reveille.db does not exist yet",
        "reveille.key does not exist yet",
        "verizon-us: simulated",
        "global: simulated",
    ] {
        assert!(said.contains(line), "{said}");
    }
    folder.write("reveille.toml", "[carriers.global]\nkind = \"simulated\"\n");
    let said = printed(&folder, "check");
    assert!(said.contains("verizon-us: none, so its profiles will fail"), "{said}");
}

#[test]
fn check_names_the_line_of_a_mistake() {
    let folder = Folder::new();
    folder.write("reveille.toml", "listen = \"127.0.0.1:0\"\ncolour = \"blue\"\n");
    let said = reveille(&folder, "check");
    assert_eq!((said.code, said.out.as_str()), (2, ""));
    let begin =
        "reveille: configuration (reveille.toml): line 2: there is no key \"colour\" here; there are ";
    assert!(said.err.starts_with(begin), "{}", said.err);
    folder.write("other.toml", "[callbacks]\ntimeout = \"soon\"\n");
    let said = reveille(&folder, "check --config other.toml");
    assert!(said.err.contains("write \"250ms\", \"4s\", \"5m\""), "{}", said.err);
    folder.write("short.toml", "keep_history = \"29days\"\n");
    let said = reveille(&folder, "check --config short.toml");
    assert!(said.err.contains("must be at least 30d"), "{}", said.err);
    let said = reveille(&folder, "check --config nowhere.toml");
    assert!(said.err.contains("cannot read nowhere.toml"), "{}", said.err);
}

#[test]
fn migrate_says_from_which_schema_to_which_and_with_check_changes_nothing() {
    let folder = Folder::new();
    let absent = reveille(&folder, "migrate --check");
    let expected = "reveille.db does not exist yet; serve, apply and migrate make it\n";
    assert_eq!((absent.code, absent.out.as_str(), absent.err.as_str()), (1, expected, ""));
    assert!(!folder.database().exists());
    folder.write("reveille.db", ""); // which is an empty database
    let due = reveille(&folder, "migrate --check");
    let (version, known) = Sqlite::versions(&folder.database()).unwrap().expect("a database");
    assert_eq!(version, 0, "it is left as it was");
    let expected = format!("reveille.db: schema 0, this release has {known}: a migration is due\n");
    assert_eq!((due.code, due.out, due.err.as_str()), (1, expected, ""));
    let migrated = printed(&folder, "migrate");
    assert_eq!(migrated, format!("reveille.db: schema brought from 0 to {known}\n"));
    assert_eq!(Sqlite::versions(&folder.database()).unwrap(), Some((known, known)));
    for line in ["migrate --check", "migrate"] {
        assert_eq!(printed(&folder, line), format!("reveille.db: schema {known} is what this release has\n"));
    }
    let folder = Folder::new();
    assert_eq!(printed(&folder, "migrate"), format!("reveille.db did not exist; made with schema {known}\n"));
    assert!(folder.path().join("reveille.key").exists(), "a new database has its key");
}

#[test]
fn a_store_is_copied_while_no_server_works_on_it_and_compared() {
    let folder = applied();
    let url = Cluster::shared().fresh_database();
    let line = format!("store copy --from sqlite:reveille.db --to {url}");
    let lock = File::create(folder.path().join("reveille.db.lock")).unwrap();
    lock.lock().unwrap(); // as a server does
    let refused = reveille(&folder, &line);
    assert_eq!((refused.code, refused.out.as_str()), (2, ""));
    let said = "stop the server before its store is copied: another server works on this store already";
    assert!(refused.err.contains(said), "{}", refused.err);
    lock.unlock().unwrap(); // closing is not enough: a process that another test starts just now has the file too
    let copied = printed(&folder, &line);
    assert!(copied.starts_with("account                           1 rows  sha-256 "), "{copied}");
    assert!(copied.contains(" rows are copied, and the same on both sides\n"), "{copied}");
    assert!(copied.contains("The server's key is not in the store: give every node the one of reveille.db"));
    let key = folder.path().join("reveille.key");
    let node = format!("database = \"{url}\"\nkey_file = \"{}\"\n", key.display());
    folder.write("node.toml", &node);
    let again = printed(&folder, "apply apply.toml --config node.toml");
    assert!(
        again.starts_with("apply.toml: 0 accounts, 0 service plans, 0 clients and 0 users new"),
        "{again}"
    );
    let refused = reveille(&folder, &line);
    assert!(refused.code == 2 && refused.err.contains("the target is not empty"), "{refused:?}");
}

#[test]
fn a_store_is_copied_from_sqlite_to_postgresql_and_no_other_way() {
    let folder = Folder::new();
    for (from, to, said) in [
        ("postgres://here/a", "sqlite:reveille.db", "and no other way"),
        ("sqlite:a.db", "sqlite:b.db", "and no other way"),
        ("postgres://here/a", "postgres://here/b", "pg_dump and pg_restore"),
        ("sqlite:", "postgres://here/b", "and no other way"),
        ("sqlite:nowhere.db", "postgres://here/b", "nowhere.db does not exist"),
    ] {
        let refused = reveille(&folder, &format!("store copy --from {from} --to {to}"));
        assert!(refused.code == 2 && refused.err.contains(said), "{from} {to}: {refused:?}");
    }
}

#[test]
fn apply_twice_changes_nothing_the_second_time() {
    let folder = Folder::new();
    folder.write("apply.toml", DECLARED);
    let first = printed(&folder, "apply apply.toml");
    assert_eq!(
        first,
        "apply.toml: 1 accounts, 1 service plans, 1 clients and 1 users new; 1 listeners set; 0 secrets rotated\n"
    );
    let second = printed(&folder, "apply apply.toml");
    assert_eq!(
        second,
        "apply.toml: 0 accounts, 0 service plans, 0 clients and 0 users new; 0 listeners set; 0 secrets rotated\n"
    );
    folder.write("apply.toml", &DECLARED.replace("demo-secret", "another-secret"));
    let rotated = printed(&folder, "apply apply.toml");
    assert!(rotated.ends_with("0 listeners set; 1 secrets rotated\n"), "{rotated}");
}

#[test]
fn a_generated_secret_is_printed_once() {
    let folder = Folder::new();
    folder.write("apply.toml", "[[client]]\nkey = \"made-up\"\n[[user]]\nusername = \"somebody\"\n");
    let first = printed(&folder, "apply apply.toml");
    assert_eq!(first.matches("(shown this once)").count(), 2, "{first}");
    let second = printed(&folder, "apply apply.toml");
    assert!(!second.contains("secret ") && second.lines().count() == 1, "{second}");
}

#[test]
fn apply_refuses_what_cannot_be_meant_and_writes_nothing() {
    let folder = Folder::new();
    for (text, said) in [
        ("[[account]]\nname = \"a b\"\n", "an account name has 3 to 32 letters, digits and hyphens"),
        ("[[account]]\nname = \"acc-1\"\ncolour = 1\n", "unknown field `colour`"),
        (
            "[[account]]\nname = \"acc-1\"\n[[account.service_plan]]\nname = \"x\"\nnetwork = \"mars\"\n",
            "verizon-us or global",
        ),
        (
            "[[account]]\nname = \"acc-1\"\n[[account.listener]]\nservice = \"Nope\"\nurl = \"http://127.0.0.1\"\n",
            "none of",
        ),
        (
            "[[account]]\nname = \"acc-1\"\n[[account.listener]]\nservice = \"DeviceProfileService\"\nurl = \"http://169.254.169.254/\"\n",
            "listener DeviceProfileService",
        ),
    ] {
        folder.write("bad.toml", text);
        let refused = reveille(&folder, "apply bad.toml");
        assert_eq!(refused.code, 2);
        assert!(refused.err.contains("bad.toml") && refused.err.contains(said), "{}", refused.err);
    }
    assert!(!folder.database().exists());
}

#[test]
fn a_fleet_with_bad_lines_is_refused_with_each_of_them_and_nothing_is_imported() {
    let folder = applied();
    let row = |rest: &str| format!("{ACCOUNT},8904903200000100000000000000000{rest}\n");
    let file = [
        HEADER.to_owned(),
        row("1,89148000000800139708,verizon-us,SUSPEND,"),
        row("2,12,verizon-us,SUSPEND,"),
        row("3,89148000000800139709,mars,SUSPEND,"),
        row("4,89148000000800139708,global,SUSPEND,"),
        format!("{ACCOUNT},1,89148000000800139711,global,,\n"),
        row("5,89148000000800139712,global,ACTIVE,device"),
        format!("{ACCOUNT}\n"),
    ];
    folder.write("fleet.csv", &file.concat());
    let said = reveille(&folder, "fleet import fleet.csv");
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    let expected = "fleet.csv:3: iccid: an ICCID has 19 or 20 digits\n\
        fleet.csv:4: network \"mars\" is none of verizon-us, global\n\
        fleet.csv:5: this ICCID stands on line 2 too\n\
        fleet.csv:6: eid: an EID has 32 digits\n\
        fleet.csv:7: suspended_by is for profiles in state SUSPEND\n\
        fleet.csv:8: 1 fields, where the header has 6\n\
        6 problems; nothing was imported\n";
    assert_eq!(said.err, expected);
    assert_eq!(printed(&folder, "fleet export").lines().count(), 1);
}

#[test]
fn a_fleet_of_an_unknown_account_is_refused() {
    let folder = applied();
    let eid = fleet::eid(1);
    folder.write("fleet.csv", &format!("{HEADER}0000999999-00001,{eid},89148000000800139708,global,,\n"));
    let said = reveille(&folder, "fleet import fleet.csv");
    assert_eq!(said.code, 1);
    let expected = "fleet.csv:2: account 0000999999-00001 does not exist; declare it with `reveille apply` first\n\
                    1 problems; nothing was imported\n";
    assert_eq!(said.err, expected);
}

#[test]
fn an_export_has_what_was_imported_and_can_be_imported() {
    let folder = applied();
    let eid = fleet::eid(1);
    folder.write(
        "fleet.csv",
        &format!(
            "{HEADER}{ACCOUNT},{eid},89148000000800139708,verizon-us,SUSPEND,\n\
             {ACCOUNT},{eid},8914800000080013970F,global,SUSPEND,device\n"
        ),
    );
    let imported = printed(&folder, "fleet import fleet.csv");
    assert_eq!(imported, "fleet.csv: 2 profiles new, 0 known; 1 devices new\n");
    let exported = printed(&folder, "fleet export");
    let expected = format!(
        "account,eid,imei,iccid,msisdn,imsi,network,role,state,suspended_by,profile_status,service_plan\n\
         {ACCOUNT},{eid},,8914800000080013970,,,global,LOCAL,SUSPEND,device,ENABLE,\n\
         {ACCOUNT},{eid},,89148000000800139708,,,verizon-us,LEAD,SUSPEND,device,ENABLE,\n"
    );
    assert_eq!(exported, expected);
    folder.write("exported.csv", &exported);
    let again = printed(&folder, "fleet import exported.csv");
    assert_eq!(again, "exported.csv: 0 profiles new, 2 known; 0 devices new\n");
}

#[test]
fn users_and_carriers_are_listed_and_changed() {
    let folder = applied();
    assert_eq!(printed(&folder, "users list"), "demo\n");
    assert_eq!(printed(&folder, "users unlock demo"), "demo may log in again\n");
    let unknown = reveille(&folder, "users unlock nobody");
    assert_eq!(unknown.code, 2);
    assert!(unknown.err.contains("there is no user \"nobody\""), "{}", unknown.err);
    assert_eq!(printed(&folder, "carriers hold global"), "global is held\n");
    assert_eq!(printed(&folder, "carriers list"), "verizon-us  running\nglobal      held\n");
    assert_eq!(printed(&folder, "carriers release global"), "global is released\n");
}

#[test]
fn every_command_has_help() {
    let folder = Folder::new();
    let help = printed(&folder, "--help");
    let commands =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<_> = commands.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(commands.len() >= 12, "{commands:?}");
    for command in commands.iter().filter(|command| **command != "help") {
        let said = printed(&folder, &format!("{command} --help"));
        assert!(said.contains(&format!("Usage: reveille {command}")), "{said}");
    }
    for (command, inner) in [
        ("fleet", "import export"),
        ("requests", "list show follow cancel"),
        ("callbacks", "list show replay"),
        ("carriers", "list hold release"),
        ("users", "list unlock"),
    ] {
        for inner in inner.split_whitespace() {
            let said = printed(&folder, &format!("{command} {inner} --help"));
            assert!(said.contains(&format!("Usage: reveille {command} {inner}")), "{said}");
        }
    }
    assert!(printed(&folder, "--version").starts_with("reveille "));
    assert_eq!(reveille(&folder, "no-such-command").code, 2);
}

/// Runs the program against a server of this process, as `demo`.
async fn against(app: &App, line: &str) -> Said {
    let access = format!(
        "--server {} --account {ACCOUNT} --key demo-key --secret demo-secret --username demo --password demo-password",
        app.url()
    );
    let line = format!("{line} {access}");
    tokio::task::spawn_blocking(move || reveille(&Folder::new(), &line)).await.expect("it was not cut off")
}

#[tokio::test]
async fn the_exit_code_of_a_resume_says_whether_every_profile_was_resumed() {
    let app =
        App::with_fleet("89148000000000000019 global suspended\n89148000000000000029 global suspended").await;
    let all = against(&app, "resume 89148000000000000019").await;
    assert_eq!(all.code, 0, "{all:?}");
    assert!(all.out.starts_with("1 succeeded, 0 failed\nrequest "), "{}", all.out);
    let some = against(&app, "resume 89148000000000000019 89148000000000000029").await;
    assert_eq!(some.code, 1, "{some:?}");
    let expected = "1 succeeded, 1 failed\n       1  REQUEST_FAILED.ProfileAlreadyResumed\nrequest ";
    assert!(some.out.starts_with(expected), "{}", some.out);
    let malformed = against(&app, "resume 12").await;
    assert_eq!(
        (malformed.code, malformed.err.as_str()),
        (2, "reveille: \"12\": an ICCID has 19 or 20 digits\n")
    );
    app.settle().await;
    assert_eq!(app.listener.received().len(), 3);
}

#[tokio::test]
async fn every_action_is_a_command() {
    let [eid, other] = [fleet::eid(1), fleet::eid(2)];
    let [lead, global, fresh] = [fleet::iccid(1), fleet::iccid(2), fleet::iccid(3)];
    let app = App::with_fleet(&format!(
        "{lead} verizon-us active euicc=1 plan=Verizon_IoT_5MB\n\
         {global} global pre_active euicc=1 status=NOT_DOWNLOADED\n\
         {fresh} global pre_active euicc=1 status=NOT_DOWNLOADED\n\
         {} verizon-us active euicc=2\n",
        fleet::iccid(4)
    ))
    .await;
    app.declare(&format!(
        "[[account]]\nname = \"{ACCOUNT}\"\n[[account.service_plan]]\nname = \"Other\"\nnetwork = \"verizon-us\"\n"
    ))
    .await;
    let csv = app.folder().path().join("devices.csv");
    app.folder().write("devices.csv", &format!("place,EID\nhere,{eid}\nthere,{other}\nhere,{eid}\n"));
    let both = format!("--csv {}", csv.display());
    let is = |iccid: &str, state: &str, status: &str| (iccid.to_owned(), format!("{state} {status}"));
    // Each command, what it says first, and how a profile is recorded then.
    for (line, said, (iccid, recorded)) in [
        (format!("activate {global} --mdn-zip-code 98801"), "1", is(&global, "ACTIVE", "NOT_DOWNLOADED")),
        (format!("download {global}"), "1", is(&global, "ACTIVE", "DOWNLOAD_DISABLE")),
        (format!("enable {global}"), "1", is(&global, "ACTIVE", "ENABLE")),
        (format!("suspend {global}"), "1", is(&global, "SUSPEND", "ENABLE")),
        (format!("resume {global}"), "1", is(&global, "ACTIVE", "ENABLE")),
        (format!("disable {global}"), "1", is(&global, "ACTIVE", "DISABLE")),
        (format!("set-fallback {lead}"), "1", is(&lead, "ACTIVE", "ENABLE")),
        (
            format!("deactivate {global} --reason-code FF --etf-waiver"),
            "1",
            is(&global, "DEACTIVE", "DISABLE"),
        ),
        (format!("activate-enable {global}"), "1", is(&global, "ACTIVE", "ENABLE")),
        (format!("disable {global}"), "1", is(&global, "ACTIVE", "DISABLE")),
        (format!("deactivate {global} --check-fallback-profile"), "1", is(&global, "DEACTIVE", "DISABLE")),
        (format!("delete {global}"), "1", is(&global, "DEACTIVE", "DELETE")),
        (format!("activate {global} {fresh}"), "2", is(&fresh, "ACTIVE", "NOT_DOWNLOADED")),
        (format!("download-disable {global}"), "1", is(&global, "ACTIVE", "DOWNLOAD_DISABLE")),
        (format!("download-enable {fresh}"), "1", is(&fresh, "ACTIVE", "DOWNLOAD_ENABLE")),
        (format!("service-plan {lead} --service-plan Other"), "1", is(&lead, "ACTIVE", "DISABLE")),
        (format!("device-suspend {eid}"), "4", is(&lead, "SUSPEND", "DISABLE")),
        (format!("device-resume {eid}"), "4", is(&global, "ACTIVE", "DOWNLOAD_DISABLE")),
        (format!("device-suspend {both}"), "6", is(&fleet::iccid(4), "SUSPEND", "ENABLE")),
        (format!("device-resume {both}"), "6", is(&fresh, "ACTIVE", "DOWNLOAD_ENABLE")),
    ] {
        let ended = against(&app, &line).await;
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{line}: {}", ended.out);
        assert!(
            ended.out.starts_with(&format!("{said} succeeded, 0 failed\nrequest ")),
            "{line}: {}",
            ended.out
        );
        let profile = app.profile(&iccid).await;
        let now = format!("{} {}", profile["state"], profile["profileStatus"]).replace('"', "");
        assert_eq!(now, recorded, "{line}");
    }
    assert_eq!(app.profile(&lead).await["servicePlan"], "Other");
    let failed = against(&app, &format!("delete {lead}")).await;
    let expected = "0 succeeded, 1 failed\n       1  INPUT_INVALID.DeviceState.Invalid\nrequest ";
    assert!(failed.code == 1 && failed.out.starts_with(expected), "{failed:?}");
    let already = against(&app, &format!("device-resume {eid}")).await;
    let expected = "0 succeeded, 4 failed\n       4  REQUEST_FAILED.ProfileAlreadyResumed\nrequest ";
    assert!(already.code == 1 && already.out.starts_with(expected), "{already:?}");
    for (line, said) in [
        (format!("service-plan {lead}"), "--service-plan is missing: the plan that they move to"),
        (format!("device-suspend {lead}"), "an EID has 32 digits"),
        (format!("suspend {eid}"), "an ICCID has 19 or 20 digits"),
        ("delete".into(), "no ICCIDs: name them, or a file with --csv"),
    ] {
        let refused = against(&app, &line).await;
        assert!(refused.code == 2 && refused.err.contains(said), "{line}: {refused:?}");
    }
    app.settle().await;
}

#[tokio::test]
async fn a_resume_as_json_can_be_read_by_a_program() {
    let app = App::with_fleet("89148000000000000019 global suspended").await;
    let said = against(&app, "resume 89148000000000000019 --json").await;
    assert_eq!(said.code, 0, "{said:?}");
    let read: Value = serde_json::from_str(&said.out).expect("JSON and nothing else");
    assert_eq!((&read["succeeded"], &read["failed"]), (&1.into(), &0.into()));
    assert_eq!(read["requests"][0]["state"], "ended");
    app.settle().await;
}

#[tokio::test]
async fn requests_and_callbacks_are_listed_followed_cancelled_and_replayed() {
    let app = App::with_fleet("89148000000000000019 global suspended").await;
    app.hold("global").await;
    let sent = against(&app, "resume 89148000000000000019 --no-wait").await;
    let request = sent.out.trim().to_owned();
    assert_eq!((sent.code, request.len()), (0, 36), "{sent:?}");
    let listed = against(&app, "requests list --state running").await;
    assert!(listed.out.contains(&request) && listed.out.contains("1 waiting"), "{listed:?}");
    let cancelled = against(&app, &format!("requests cancel {request}")).await;
    assert!(cancelled.out.contains("1 failed"), "{cancelled:?}");
    let followed = against(&app, &format!("requests follow {request}")).await;
    assert_eq!(followed.code, 1, "a cancelled profile was not resumed");
    app.settle().await;
    app.release("global").await;
    let callbacks = against(&app, &format!("callbacks list --request {request}")).await;
    assert!(callbacks.out.contains("delivered attempts 1 of 4"), "{callbacks:?}");
    let replayed = against(&app, &format!("callbacks replay {request}.1")).await;
    assert_eq!(replayed.out, "1 callbacks are sent again\n");
    app.settle().await;
    assert_eq!(app.listener.callback_counts(), [1, 1]);
}

#[tokio::test]
async fn a_running_server_notices_what_commands_change_in_its_store() {
    let app = App::with_fleet("89148000000000000019 global suspended").await;
    let carriers = "[carriers.global]\nkind = \"simulated\"\n[carriers.verizon-us]\nkind = \"simulated\"\n";
    let toml = format!("database = \"sqlite:{}\"\n{carriers}", app.folder().database().display());
    app.folder().write("reveille.toml", &toml);
    let path = app.folder().path().join("reveille.toml");
    let line = format!("carriers hold global --config {}", path.display());
    let held = tokio::task::spawn_blocking(move || reveille(&Folder::new(), &line)).await.unwrap();
    assert_eq!(held.out, "global is held\n", "{held:?}");
    crate::real_time::until("the server notices the hold", || async {
        app.carrier("global").await["held"] == true
    })
    .await;
    app.release("global").await;
}
