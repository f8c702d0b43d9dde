//! Join tokens: each works once, for a while, and guessing is slow.

use std::collections::VecDeque;
use std::time::Duration;

use sortie_model::limits;
use sortie_wire::join_proto::JoinSecret;
use sortie_wire::remote_error::{ErrorCode, RemoteError};

/// A moment on the node's monotonic clock, from its start.
pub type Uptime = Duration;

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Open,
    Used,
}

#[derive(Debug, Clone)]
struct Issued {
    secret: JoinSecret,
    until: Uptime,
    usage: Use,
}

impl Issued {
    fn is_out(&self, now: Uptime) -> bool {
        self.usage == Use::Open && now < self.until
    }
}

/// The tokens of the node that holds the CA. They are in memory only: a restart voids them.
#[derive(Debug, Clone, Default)]
pub struct Tokens {
    /// Oldest first. Used and expired ones are kept to say so, as long as there is room.
    issued: VecDeque<Issued>,
    /// The minute of the last wrong token, and how many came in it.
    wrong: (u64, u32),
}

/// As many tokens are out as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} join tokens are out already; wait until some are used or expire", limits::TOKENS)]
pub struct TooManyTokens;

/// Why a token does not let a node in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenRefused {
    /// It was never issued here, or so long ago that it was forgotten.
    #[error("this cluster did not issue that join token")]
    Wrong,
    /// A node joined with it.
    #[error("that join token was used before")]
    Used,
    /// It is too old.
    #[error("that join token is too old")]
    Expired,
    /// So many wrong tokens came that none is looked at for now.
    #[error("too many wrong join tokens; try again in {} s", wait.as_secs().max(1))]
    LockedOut {
        /// Until joins are looked at again.
        wait: Duration,
    },
}

impl TokenRefused {
    /// The error as it crosses a link.
    pub fn to_remote(self) -> RemoteError {
        let code = match self {
            Self::Wrong => ErrorCode::TokenWrong,
            Self::Used => ErrorCode::TokenUsed,
            Self::Expired => ErrorCode::TokenExpired,
            Self::LockedOut { .. } => return RemoteError::new(ErrorCode::Limit, self.to_string()),
        };
        let hint = "`sortie cluster token` on a member gives a new one";
        RemoteError::new(code, self.to_string()).hint(hint)
    }
}

impl Tokens {
    /// Lets a fresh random secret be redeemed once within [`limits::TOKEN_LIFE`].
    ///
    /// # Errors
    /// [`TooManyTokens`] when [`limits::TOKENS`] are out.
    pub fn issue(&mut self, secret: JoinSecret, now: Uptime) -> Result<(), TooManyTokens> {
        if self.issued.iter().filter(|token| token.is_out(now)).count() >= limits::TOKENS {
            return Err(TooManyTokens);
        }
        if self.issued.len() >= limits::TOKENS {
            let spent = self.issued.iter().position(|token| !token.is_out(now));
            spent.and_then(|place| self.issued.remove(place));
        }
        let until = now.saturating_add(limits::TOKEN_LIFE);
        self.issued.push_back(Issued { secret, until, usage: Use::Open });
        Ok(())
    }

    /// Uses a token up. When the join fails for another reason, [`Tokens::give_back`] follows.
    ///
    /// # Errors
    /// [`TokenRefused`]. Wrong tokens are counted, and after [`limits::WRONG_TOKENS_PER_MINUTE`] of
    /// them every token is refused for the rest of the minute, good ones too.
    pub fn redeem(&mut self, secret: &JoinSecret, now: Uptime) -> Result<(), TokenRefused> {
        let minute = now.as_secs() / MINUTE.as_secs();
        if self.wrong.0 != minute {
            self.wrong = (minute, 0);
        }
        if self.wrong.1 >= limits::WRONG_TOKENS_PER_MINUTE {
            let wait = MINUTE - Duration::from_secs(now.as_secs() % MINUTE.as_secs());
            return Err(TokenRefused::LockedOut { wait });
        }
        let Some(token) = self.find(secret) else {
            self.wrong.1 += 1;
            return Err(TokenRefused::Wrong);
        };
        if token.usage == Use::Used {
            return Err(TokenRefused::Used);
        }
        if now >= token.until {
            return Err(TokenRefused::Expired);
        }
        token.usage = Use::Used;
        Ok(())
    }

    /// The join that used the token up came to nothing: the token works again.
    pub fn give_back(&mut self, secret: &JoinSecret) {
        if let Some(token) = self.find(secret) {
            token.usage = Use::Open;
        }
    }

    /// Looks at every token and at every byte, so that the time taken tells nothing.
    fn find(&mut self, secret: &JoinSecret) -> Option<&mut Issued> {
        let mut found = None;
        for token in &mut self.issued {
            let pairs = token.secret.0.iter().zip(secret.0);
            let difference = pairs.fold(0, |sum, (a, b)| sum | (a ^ b));
            if std::hint::black_box(difference) == 0 {
                found = Some(token);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secret(number: u32) -> JoinSecret {
        let mut bytes = [7; JoinSecret::BYTES];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        JoinSecret(bytes)
    }

    const START: Uptime = Duration::from_secs(1_000_000);

    #[test]
    fn a_token_works_once() {
        let mut tokens = Tokens::default();
        tokens.issue(secret(1), START).unwrap();
        assert_eq!(tokens.redeem(&secret(1), START), Ok(()));
        assert_eq!(tokens.redeem(&secret(1), START), Err(TokenRefused::Used));
        assert_eq!(tokens.redeem(&secret(2), START), Err(TokenRefused::Wrong));
    }

    #[test]
    fn a_token_works_for_its_life_only() {
        let mut tokens = Tokens::default();
        tokens.issue(secret(1), START).unwrap();
        tokens.issue(secret(2), START).unwrap();
        let end = START + limits::TOKEN_LIFE;
        assert_eq!(tokens.redeem(&secret(1), end - Duration::from_nanos(1)), Ok(()));
        assert_eq!(tokens.redeem(&secret(2), end), Err(TokenRefused::Expired));
        assert_eq!(tokens.redeem(&secret(1), end), Err(TokenRefused::Used));
    }

    #[test]
    fn a_join_that_comes_to_nothing_gives_its_token_back() {
        let mut tokens = Tokens::default();
        tokens.issue(secret(1), START).unwrap();
        tokens.redeem(&secret(1), START).unwrap();
        tokens.give_back(&secret(1));
        assert_eq!(tokens.redeem(&secret(1), START), Ok(()));
    }

    #[test]
    fn guessing_locks_everyone_out_until_the_next_minute() {
        let mut tokens = Tokens::default();
        let now = Duration::from_secs(60 * 7 + 20);
        tokens.issue(secret(0), now).unwrap();
        for guess in 1..=limits::WRONG_TOKENS_PER_MINUTE {
            assert_eq!(tokens.redeem(&secret(guess), now), Err(TokenRefused::Wrong));
        }
        let wait = Duration::from_secs(40);
        assert_eq!(tokens.redeem(&secret(0), now), Err(TokenRefused::LockedOut { wait }));
        assert_eq!(tokens.redeem(&secret(0), now + wait), Ok(()));
    }

    #[test]
    fn only_so_many_tokens_are_out_and_spent_ones_make_room() {
        let mut tokens = Tokens::default();
        let most = limits::TOKENS as u32;
        for number in 0..most {
            tokens.issue(secret(number), START).unwrap();
        }
        assert_eq!(tokens.issue(secret(most), START), Err(TooManyTokens));
        tokens.redeem(&secret(5), START).unwrap();
        tokens.issue(secret(most), START).unwrap();
        assert_eq!(tokens.redeem(&secret(5), START), Err(TokenRefused::Wrong));
        assert_eq!(tokens.redeem(&secret(most), START), Ok(()));
        let later = START + limits::TOKEN_LIFE;
        for number in 0..2 * most {
            let issued = tokens.issue(secret(most + 1 + number), later);
            assert_eq!(issued.is_ok(), number < most);
        }
        assert_eq!(tokens.issued.len(), limits::TOKENS);
    }

    #[test]
    fn each_refusal_has_its_code() {
        let code = |refused: TokenRefused| refused.to_remote().code;
        assert_eq!(code(TokenRefused::Wrong), ErrorCode::TokenWrong);
        assert_eq!(code(TokenRefused::Used), ErrorCode::TokenUsed);
        assert_eq!(code(TokenRefused::Expired), ErrorCode::TokenExpired);
        let locked = TokenRefused::LockedOut { wait: Duration::from_secs(3) };
        assert_eq!((code(locked), code(locked).is_retryable()), (ErrorCode::Limit, true));
    }

    proptest! {
        /// The obvious model: a list of what was issued when and what was used.
        #[test]
        fn no_token_lets_two_nodes_in(
            steps in prop::collection::vec((any::<bool>(), 0..4_u32, 0..400_u64), 0..60)
        ) {
            let mut tokens = Tokens::default();
            let mut model: Vec<(u32, Uptime, bool)> = Vec::new();
            let (mut now, mut wrong) = (START, std::collections::HashMap::new());
            for (issue, number, wait) in steps {
                now += Duration::from_secs(wait);
                let known = model.iter_mut().find(|token| token.0 == number);
                if issue {
                    if known.is_none() {
                        tokens.issue(secret(number), now).unwrap();
                        model.push((number, now, false));
                    }
                    continue;
                }
                let wrong: &mut u32 = wrong.entry(now.as_secs() / 60).or_default();
                let expected = match known {
                    _ if *wrong >= limits::WRONG_TOKENS_PER_MINUTE => continue,
                    None => Err(TokenRefused::Wrong),
                    Some((_, _, true)) => Err(TokenRefused::Used),
                    Some((_, issued, _)) if now >= *issued + limits::TOKEN_LIFE => {
                        Err(TokenRefused::Expired)
                    }
                    Some((_, _, used)) => {
                        *used = true;
                        Ok(())
                    }
                };
                *wrong += u32::from(expected == Err(TokenRefused::Wrong));
                prop_assert_eq!(tokens.redeem(&secret(number), now), expected);
            }
        }
    }
}
