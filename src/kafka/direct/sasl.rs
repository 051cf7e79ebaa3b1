//! Log-ins: SASL PLAIN and SCRAM (RFC 5802, 7677), and OAUTHBEARER.

use super::oauth::Unsecured;
use crate::time::{Clock, SystemClock, US_PER_SECOND};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};
use std::num::NonZeroU32;

/// A server may ask for so many rounds; Kafka's default is 4096. More would only burn time.
const ROUNDS_MAX: u32 = 1 << 20;

/// The text says what is wrong with the password or the server.
type Result<T> = std::result::Result<T, String>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        }
    }

    fn hmac(self, key: &[u8], text: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), text)
            .as_ref()
            .to_vec()
    }

    fn salted(self, password: &str, salt: &[u8], rounds: NonZeroU32) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        };
        let mut salted = vec![0; self.digest().output_len()];
        pbkdf2::derive(algorithm, rounds, salt, password.as_bytes(), &mut salted);
        salted
    }
}

/// One log-in: its mechanism, its secret, and how far it has come.
#[derive(Clone)]
pub enum Login {
    Plain { user: String, password: String },
    Scram(Scram),
    Bearer(Unsecured),
}

#[derive(Clone)]
pub struct Scram {
    hash: Hash,
    user: String,
    password: String,
    stage: Stage,
}

#[derive(Clone)]
enum Stage {
    Start,
    /// Sent: the nonce and the first message without its header.
    First {
        nonce: String,
        bare: String,
    },
    /// Sent: what the server must sign.
    Final {
        signature: Vec<u8>,
    },
}

impl Login {
    pub fn plain(user: &str, password: &str) -> Self {
        Self::Plain {
            user: user.into(),
            password: password.into(),
        }
    }

    pub fn scram(hash: Hash, user: &str, password: &str) -> Self {
        Self::Scram(Scram {
            hash,
            user: user.into(),
            password: password.into(),
            stage: Stage::Start,
        })
    }

    /// The mechanism's registered name.
    pub fn mechanism(&self) -> &'static str {
        match self {
            Self::Plain { .. } => "PLAIN",
            Self::Bearer(_) => "OAUTHBEARER",
            Self::Scram(s) => match s.hash {
                Hash::Sha256 => "SCRAM-SHA-256",
                Hash::Sha512 => "SCRAM-SHA-512",
            },
        }
    }

    /// The first message to the server.
    pub fn first(&mut self) -> Result<Vec<u8>> {
        match self {
            Self::Plain { user, password } => Ok(format!("\0{user}\0{password}").into_bytes()),
            Self::Bearer(token) => {
                let now_s = SystemClock::new().wall_us() / US_PER_SECOND;
                Ok(token.first(now_s).into_bytes())
            }
            Self::Scram(scram) => {
                let mut random = [0; 18];
                SystemRandom::new()
                    .fill(&mut random)
                    .map_err(|_| "this machine has no random numbers".to_string())?;
                Ok(scram.first(STANDARD.encode(random)))
            }
        }
    }

    /// The answer to what the server says; `None` at the end.
    pub fn answer(&mut self, challenge: &[u8]) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Plain { .. } => Ok(None),
            Self::Bearer(_) if challenge.is_empty() => Ok(None),
            // Why the token is refused. Once it is acknowledged the broker refuses the log-in.
            Self::Bearer(_) => Ok(Some(b"\x01".to_vec())),
            Self::Scram(scram) => scram.answer(challenge),
        }
    }
}

impl Scram {
    fn first(&mut self, nonce: String) -> Vec<u8> {
        let user = self.user.replace('=', "=3D").replace(',', "=2C");
        let bare = format!("n={user},r={nonce}");
        let message = format!("n,,{bare}");
        self.stage = Stage::First { nonce, bare };
        message.into_bytes()
    }

    fn answer(&mut self, challenge: &[u8]) -> Result<Option<Vec<u8>>> {
        let text = std::str::from_utf8(challenge).map_err(|_| "its SCRAM message is no text")?;
        let field = |name: char| {
            text.split(',')
                .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
        };
        if let Some(error) = field('e') {
            return Err(error.to_string());
        }
        match std::mem::replace(&mut self.stage, Stage::Start) {
            Stage::Start => Err("its SCRAM message comes too early".into()),
            Stage::First { nonce, bare } => {
                let incomplete = "its first SCRAM message is incomplete";
                let both = field('r').ok_or(incomplete)?;
                if !both.starts_with(&nonce) || both.len() == nonce.len() {
                    return Err("its SCRAM message answers another log-in".into());
                }
                let salt = STANDARD
                    .decode(field('s').ok_or(incomplete)?)
                    .map_err(|_| incomplete)?;
                let rounds = field('i')
                    .and_then(|i| i.parse::<NonZeroU32>().ok())
                    .filter(|i| i.get() <= ROUNDS_MAX)
                    .ok_or("its number of SCRAM rounds is impossible")?;
                Ok(Some(self.proof(&bare, text, both, &salt, rounds)))
            }
            Stage::Final { signature } => {
                let signed = field('v').and_then(|v| STANDARD.decode(v).ok());
                match signed == Some(signature) {
                    true => Ok(None),
                    false => Err("the server does not know the password itself".into()),
                }
            }
        }
    }

    /// The client's last message; notes what the server must answer.
    fn proof(
        &mut self,
        bare: &str,
        challenge: &str,
        nonce: &str,
        salt: &[u8],
        rounds: NonZeroU32,
    ) -> Vec<u8> {
        let hash = self.hash;
        let salted = hash.salted(&self.password, salt, rounds);
        let client_key = hash.hmac(&salted, b"Client Key");
        let stored_key = digest::digest(hash.digest(), &client_key);
        // "biws" is "n,," in base64: no channel binding.
        let without_proof = format!("c=biws,r={nonce}");
        let auth = format!("{bare},{challenge},{without_proof}");
        let client_signature = hash.hmac(stored_key.as_ref(), auth.as_bytes());
        let proof: Vec<u8> = client_key
            .iter()
            .zip(&client_signature)
            .map(|(key, signature)| key ^ signature)
            .collect();
        let server_key = hash.hmac(&salted, b"Server Key");
        self.stage = Stage::Final {
            signature: hash.hmac(&server_key, auth.as_bytes()),
        };
        format!("{without_proof},p={}", STANDARD.encode(proof)).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677.
    #[test]
    fn scram_sha_256_as_in_the_rfc() {
        let Login::Scram(mut scram) = Login::scram(Hash::Sha256, "user", "pencil") else {
            unreachable!()
        };
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        assert_eq!(
            text(scram.first("rOprNGfwEbeRWgbNEkqO".into())),
            "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
        );
        let challenge = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let last = scram.answer(challenge).unwrap().unwrap();
        assert_eq!(
            text(last),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        let mut imposter = scram.clone();
        let end = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(scram.answer(end), Ok(None));
        assert!(imposter.answer(b"v=AAAA").is_err());
    }

    #[test]
    fn a_server_that_lies_is_refused() {
        for challenge in [
            &b"\xff"[..],
            b"",
            b"e=other-error",
            b"r=abc,s=AAAA,i=4096",
            b"r=abcd,s=AAAA,i=0",
            b"r=abcd,s=AAAA,i=99999999999",
            b"r=xbcd,s=AAAA,i=4096",
            b"r=abcd,s=?,i=4096",
        ] {
            let Login::Scram(mut scram) = Login::scram(Hash::Sha512, "a,b=c", "p") else {
                unreachable!()
            };
            assert_eq!(scram.first("abc".into()), b"n,,n=a=2Cb=3Dc,r=abc");
            assert!(scram.answer(challenge).is_err(), "{challenge:?}");
        }
    }
}
