/** An authorization request of the phone app. For tests that do not redeem the authorization code. */
export const authorizationRequest = {
  client_id: 'phone-app',
  response_type: 'code',
  redirect_uri: 'http://127.0.0.1:9/callback',
  scope: 'openid',
  code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbPjojmfqnHw',
  code_challenge_method: 'S256',
}
