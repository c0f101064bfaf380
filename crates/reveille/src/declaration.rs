//! The apply file: accounts, service plans, listeners, clients and users, declared.

use anyhow::{Context, Result, anyhow, ensure};
use reveille_api::{hash_password, random_password};
use reveille_callbacks::Guard;
use reveille_domain::{AccountName, ListenerName, Network, Timestamp};
use reveille_engine::{Random, Secrets};
use reveille_store::{
    ClientDeclaration, Declaration, FURTHER_LISTENERS_MAX, ITSELF, Listener, ListenerDeclaration,
    UserDeclaration,
};
use reveille_wire::answers::{CREDENTIAL_CHARS_MAX, SERVICES};
use serde::Deserialize;
use std::collections::HashMap;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    account: Vec<Account>,
    #[serde(default)]
    client: Vec<Client>,
    #[serde(default)]
    user: Vec<User>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Account {
    name: String,
    #[serde(default)]
    service_plan: Vec<ServicePlan>,
    #[serde(default)]
    listener: Vec<DeclaredListener>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServicePlan {
    name: String,
    network: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeclaredListener {
    service: String,
    name: Option<String>,
    url: String,
    username: Option<String>,
    password: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Client {
    key: String,
    secret: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct User {
    username: String,
    password: Option<String>,
    #[serde(default)]
    accounts: Vec<String>,
    operator: Option<bool>,
}

/// What a file declares, and the secrets that were made up for it.
pub struct Declared {
    /// For the store.
    pub declaration: Declaration,
    /// Secrets of clients, by key.
    pub client_secrets: Vec<(String, String)>,
    /// Passwords of users, by name.
    pub user_passwords: Vec<(String, String)>,
}

/// What the secrets of a declaration are made and kept with.
pub struct Keeping<'a> {
    /// What callback passwords are encrypted under.
    pub secrets: &'a Secrets,
    /// Where made-up secrets come from.
    pub random: &'a dyn Random,
    /// Where listeners may be.
    pub guard: &'a Guard,
}

/// Reads an apply file. The whole of it is checked; nothing is written here.
pub fn read(text: &str, keeping: &Keeping<'_>) -> Result<Declared> {
    let file: File = toml::from_str(text).map_err(|error| anyhow!("{}", error.to_string().trim_end()))?;
    let mut declared = Declared {
        declaration: Declaration::default(),
        client_secrets: Vec::new(),
        user_passwords: Vec::new(),
    };
    for account in file.account {
        let name = account.name.clone();
        declare_account(account, keeping, &mut declared).with_context(|| format!("[[account]] {name:?}"))?;
    }
    for client in file.client {
        declare_client(client, keeping, &mut declared)?;
    }
    for user in file.user {
        declare_user(user, keeping, &mut declared)?;
    }
    Ok(declared)
}

fn declare_account(account: Account, keeping: &Keeping<'_>, declared: &mut Declared) -> Result<()> {
    let name: AccountName = account.name.parse()?;
    for plan in account.service_plan {
        let networks = Network::ALL.map(Network::name).join(" or ");
        let network = Network::named(&plan.network);
        let network =
            network.with_context(|| format!("service plan {:?}: network must be {networks}", plan.name))?;
        ensure!(!plan.name.is_empty(), "a service plan needs a name");
        declared.declaration.service_plans.push((name.clone(), network, plan.name.into()));
    }
    let mut further: HashMap<String, usize> = HashMap::new();
    for listener in account.listener {
        let service = listener.service.clone();
        let listener = declare_listener(listener, keeping)?;
        let so_far = further.entry(service.clone()).or_default();
        *so_far += usize::from(!listener.name.is_own());
        ensure!(
            *so_far <= FURTHER_LISTENERS_MAX,
            "listener {service}: a service has at most {FURTHER_LISTENERS_MAX} with names"
        );
        declared.declaration.listeners.push(ListenerDeclaration { account: name.clone(), listener });
    }
    declared.declaration.accounts.push(name);
    Ok(())
}

fn declare_listener(listener: DeclaredListener, keeping: &Keeping<'_>) -> Result<Listener> {
    let known = SERVICES.contains(&listener.service.as_str());
    ensure!(known, "listener: service {:?} is none of {}", listener.service, SERVICES.join(", "));
    let too_long =
        |text: &Option<String>| text.as_ref().is_some_and(|text| text.chars().count() > CREDENTIAL_CHARS_MAX);
    ensure!(
        !too_long(&listener.username) && !too_long(&listener.password),
        "listener {}: username and password have at most {CREDENTIAL_CHARS_MAX} characters each",
        listener.service
    );
    keeping.guard.check(&listener.url).with_context(|| format!("listener {}", listener.service))?;
    let name = listener.name.as_deref().map_or(Ok(ListenerName::OWN), str::parse);
    let name = name.with_context(|| format!("listener {}: name", listener.service))?;
    Ok(Listener {
        service: listener.service.into(),
        name,
        url: listener.url.into(),
        username: listener.username.map(Into::into),
        password: listener.password.map(|password| keeping.secrets.seal(&password)),
        registered_at: Timestamp(0),
    })
}

fn declare_client(client: Client, keeping: &Keeping<'_>, declared: &mut Declared) -> Result<()> {
    ensure!(
        !client.key.is_empty() && !client.key.contains(':'),
        "[[client]]: a key is not empty and has no colon"
    );
    let given = client.secret.is_some();
    let secret = client.secret.unwrap_or_else(|| random_password(keeping.random));
    let secret_digest = Secrets::digest(&secret);
    if !given {
        declared.client_secrets.push((client.key.clone(), secret));
    }
    declared.declaration.clients.push(ClientDeclaration { key: client.key.into(), secret_digest, given });
    Ok(())
}

fn declare_user(user: User, keeping: &Keeping<'_>, declared: &mut Declared) -> Result<()> {
    let name = user.username;
    ensure!(!name.is_empty(), "[[user]]: username is empty");
    ensure!(name != ITSELF, "[[user]]: {ITSELF:?} is the server's own name; choose another");
    let accounts =
        user.accounts.iter().map(|account| account.parse()).collect::<Result<Vec<AccountName>, _>>();
    let accounts = accounts.with_context(|| format!("[[user]] {name:?}: accounts"))?;
    let password = match user.password {
        Some(password) => password,
        None => {
            let made = random_password(keeping.random);
            declared.user_passwords.push((name.clone(), made.clone()));
            made
        }
    };
    let password_hash = hash_password(&password, keeping.random);
    let declaration = UserDeclaration { name: name.into(), password_hash, operator: user.operator, accounts };
    declared.declaration.users.push(declaration);
    Ok(())
}
