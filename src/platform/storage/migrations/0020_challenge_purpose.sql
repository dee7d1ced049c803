-- One challenge for each purpose: the next takes the place of the one before.
create index passkey_challenges_purpose on passkey_challenges (purpose);
