//! Passwords: argon2id, a few at a time, and in the same time for users that do not exist.

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use reveille_domain::Refusal;
use reveille_engine::Random;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// How many are hashed at a time: each takes 19 MiB and some 30 milliseconds of a core.
const AT_A_TIME: usize = 2;

/// How many may wait for that; more are told to come again.
const WAITING_MAX: usize = 32;

const SALT_BYTES: usize = 16;

/// What stands in for the hash of a user that does not exist.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGF0IGFsbCE$8jXQ1pGBhhmYQSXc0cpHr0mEDZEwy1W1ZDaJkP0vIuQ";

/// The argon2id hash of a password, in PHC form. Takes some 30 milliseconds.
pub fn hash_password(password: &str, random: &dyn Random) -> String {
    let mut salt = [0; SALT_BYTES];
    random.fill(&mut salt);
    let hash: PasswordHash = Argon2::default()
        .hash_password_with_salt(password.as_bytes(), &salt)
        .expect("a salt of 16 bytes and the default costs are valid");
    hash.to_string()
}

/// A password of 16 letters and digits.
pub fn random_password(random: &dyn Random) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789";
    let mut bits = random.bits();
    let mut password = String::with_capacity(16);
    for _ in 0..16 {
        let index = usize::try_from(bits % ALPHABET.len() as u128).unwrap_or(0);
        password.push(char::from(ALPHABET[index]));
        bits /= ALPHABET.len() as u128;
    }
    password
}

/// Hashes under the limits above.
pub(crate) struct Passwords {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(AT_A_TIME)), waiting: AtomicUsize::new(0) }
    }
}

impl Passwords {
    /// Whether `password` is that of the user with `hash`; without a user it is not, after the same time.
    pub(crate) async fn verify(&self, password: String, hash: Option<String>) -> Result<bool, Refusal> {
        self.run(move || {
            let known = hash.is_some();
            let hash = hash.unwrap_or_else(|| NOBODY.to_owned());
            let Ok(parsed) = PasswordHash::new(&hash) else { return false };
            Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok() && known
        })
        .await
    }

    /// The hash of a new password.
    pub(crate) async fn hash(&self, password: String, random: Arc<dyn Random>) -> Result<String, Refusal> {
        self.run(move || hash_password(&password, random.as_ref())).await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
        let overloaded =
            Refusal::Overloaded { what: "Too many logins at a time.", retry_after: Duration::from_secs(1) };
        if self.waiting.fetch_add(1, Ordering::AcqRel) >= WAITING_MAX {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            return Err(overloaded);
        }
        let place = Arc::clone(&self.places).acquire_owned().await;
        self.waiting.fetch_sub(1, Ordering::AcqRel);
        let Ok(place) = place else { return Err(overloaded) };
        let done = tokio::task::spawn_blocking(move || {
            let _place = place;
            work()
        });
        done.await.map_err(|_| overloaded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sevens;
    impl Random for Sevens {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(7);
        }
    }

    #[tokio::test]
    async fn a_password_is_verified_and_nobody_has_none() {
        let passwords = Passwords::default();
        let hash = hash_password("demo-password", &Sevens);
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(passwords.verify("demo-password".into(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("other".into(), Some(hash)).await.unwrap());
        assert!(!passwords.verify("demo-password".into(), None).await.unwrap());
    }

    #[test]
    fn the_stand_in_costs_what_a_real_hash_costs() {
        let nobody = PasswordHash::new(NOBODY).unwrap();
        let real = hash_password("x", &Sevens);
        let real = PasswordHash::new(&real).unwrap();
        assert_eq!(nobody.params.to_string(), real.params.to_string());
        assert!(nobody.hash.is_some());
    }

    #[test]
    fn a_random_password_has_16_characters() {
        assert_eq!(random_password(&Sevens).len(), 16);
    }
}
