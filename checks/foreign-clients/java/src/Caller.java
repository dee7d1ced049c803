import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.jwk.Curve;
import com.nimbusds.jose.jwk.JWK;
import com.nimbusds.jose.jwk.JWKSet;
import com.nimbusds.jose.jwk.gen.ECKeyGenerator;
import com.nimbusds.oauth2.sdk.AuthorizationGrant;
import com.nimbusds.oauth2.sdk.RefreshTokenGrant;
import com.nimbusds.oauth2.sdk.Request;
import com.nimbusds.oauth2.sdk.Scope;
import com.nimbusds.oauth2.sdk.TokenErrorResponse;
import com.nimbusds.oauth2.sdk.TokenRequest;
import com.nimbusds.oauth2.sdk.TokenResponse;
import com.nimbusds.oauth2.sdk.auth.ClientAuthentication;
import com.nimbusds.oauth2.sdk.auth.ClientSecretBasic;
import com.nimbusds.oauth2.sdk.auth.ClientSecretPost;
import com.nimbusds.oauth2.sdk.auth.PKITLSClientAuthentication;
import com.nimbusds.oauth2.sdk.auth.PrivateKeyJWT;
import com.nimbusds.oauth2.sdk.auth.Secret;
import com.nimbusds.oauth2.sdk.auth.SelfSignedTLSClientAuthentication;
import com.nimbusds.oauth2.sdk.ciba.AuthRequestID;
import com.nimbusds.oauth2.sdk.ciba.CIBAGrant;
import com.nimbusds.oauth2.sdk.ciba.CIBARequest;
import com.nimbusds.oauth2.sdk.ciba.CIBARequestAcknowledgement;
import com.nimbusds.oauth2.sdk.ciba.CIBAResponse;
import com.nimbusds.oauth2.sdk.dpop.DPoPProofFactory;
import com.nimbusds.oauth2.sdk.dpop.DefaultDPoPProofFactory;
import com.nimbusds.oauth2.sdk.http.HTTPRequest;
import com.nimbusds.oauth2.sdk.http.HTTPResponse;
import com.nimbusds.oauth2.sdk.id.ClientID;
import com.nimbusds.oauth2.sdk.id.Issuer;
import com.nimbusds.oauth2.sdk.token.AccessToken;
import com.nimbusds.openid.connect.sdk.Nonce;
import com.nimbusds.openid.connect.sdk.OIDCTokenResponse;
import com.nimbusds.openid.connect.sdk.OIDCTokenResponseParser;
import com.nimbusds.openid.connect.sdk.UserInfoRequest;
import com.nimbusds.openid.connect.sdk.UserInfoResponse;
import com.nimbusds.openid.connect.sdk.claims.IDTokenClaimsSet;
import com.nimbusds.openid.connect.sdk.op.OIDCProviderMetadata;
import com.nimbusds.openid.connect.sdk.token.OIDCTokens;
import com.nimbusds.openid.connect.sdk.validators.AccessTokenValidator;
import com.nimbusds.openid.connect.sdk.validators.IDTokenValidator;
import java.net.URI;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLSocketFactory;
import net.minidev.json.JSONObject;

/** A client with its authentication method. It opens a new connection for each call. */
final class Caller {
  final JSONObject own;
  final ClientID id;
  final OIDCProviderMetadata metadata;
  private final String method;
  private final SSLSocketFactory sockets;
  private DPoPProofFactory proofs;
  private Nonce nonce;

  Caller(JSONObject own, String method, JSONObject shown) throws Exception {
    this.own = own;
    this.method = method;
    id = new ClientID((String) own.get("client_id"));
    SSLContext context = Stage.contextOf(shown);
    sockets = context.getSocketFactory();
    URI discovery = URI.create(Stage.text("issuer") + "/.well-known/openid-configuration");
    metadata = OIDCProviderMetadata.parse(send(new HTTPRequest(HTTPRequest.Method.GET, discovery)).getBody());
  }

  static Caller as(String name, String method) throws Exception {
    JSONObject own = Stage.client(name);
    return new Caller(own, method, own);
  }

  HTTPResponse send(HTTPRequest request) throws Exception {
    request.setSSLSocketFactory(sockets);
    return request.send();
  }

  HTTPResponse send(Request request) throws Exception {
    return send(request.toHTTPRequest());
  }

  /** Returns the authentication for one call: each call needs a new assertion. */
  ClientAuthentication authentication() throws Exception {
    Secret secret = new Secret(String.valueOf(own.get("client_secret")));
    switch (method) {
      case "client_secret_basic":
        return new ClientSecretBasic(id, secret);
      case "client_secret_post":
        return new ClientSecretPost(id, secret);
      case "tls_client_auth":
        return new PKITLSClientAuthentication(id, sockets);
      case "self_signed_tls_client_auth":
        return new SelfSignedTLSClientAuthentication(id, sockets);
      default:
        JWK jwk = jwk();
        JWSAlgorithm alg = new JWSAlgorithm(jwk.getAlgorithm().getName());
        return new PrivateKeyJWT(
            id, metadata.getTokenEndpointURI(), alg, Stage.privateKey((String) own.get("pem")), jwk.getKeyID(), null);
    }
  }

  JWK jwk() throws Exception {
    return JWK.parse((JSONObject) own.get("jwk"));
  }

  /** Creates a DPoP key. From now on, each call is sent with a proof of this key. */
  void proveKey() throws Exception {
    proofs = new DefaultDPoPProofFactory(new ECKeyGenerator(Curve.P_256).generate(), JWSAlgorithm.ES256);
  }

  CIBARequest.Builder asked() throws Exception {
    return new CIBARequest.Builder(authentication(), Scope.parse("openid offline_access"))
        .loginHint(Stage.text("login_hint"))
        .bindingMessage("Coffee 4.20")
        .endpointURI(metadata.getBackChannelAuthenticationEndpointURI());
  }

  CIBARequestAcknowledgement initiate(CIBARequest request) throws Exception {
    CIBAResponse response = CIBAResponse.parse(send(request));
    Stage.check(response.indicatesSuccess(), "refused: " + response.toHTTPResponse().getBody());
    return response.toRequestAcknowledgement();
  }

  /** Sends a token request. If the server demands a DPoP nonce, sends the request once more with the nonce. */
  TokenResponse token(AuthorizationGrant grant) throws Exception {
    for (int calls = 0; ; calls++) {
      HTTPRequest request =
          new TokenRequest.Builder(metadata.getTokenEndpointURI(), authentication(), grant).build().toHTTPRequest();
      if (proofs != null) request.setDPoP(proofs.createDPoPJWT("POST", metadata.getTokenEndpointURI(), nonce));
      HTTPResponse response = send(request);
      if (response.getDPoPNonce() != null) nonce = response.getDPoPNonce();
      TokenResponse parsed = OIDCTokenResponseParser.parse(response);
      boolean needsNonce = !parsed.indicatesSuccess() && "use_dpop_nonce".equals(errorOf(parsed));
      if (!needsNonce || calls > 0) return parsed;
    }
  }

  TokenResponse poll(AuthRequestID authReqId) throws Exception {
    return token(new CIBAGrant(authReqId));
  }

  void isRefused(TokenResponse response, String error) {
    Stage.check(!response.indicatesSuccess(), "expected " + error + ", got tokens");
    Stage.check(error.equals(errorOf(response)), "expected " + error + ", got " + errorOf(response));
  }

  private static String errorOf(TokenResponse response) {
    TokenErrorResponse refused = response.toErrorResponse();
    return refused.getErrorObject().getCode();
  }

  OIDCTokens tokensOf(TokenResponse response) throws Exception {
    Stage.check(response.indicatesSuccess(), "refused: " + response.toHTTPResponse().getBody());
    OIDCTokens tokens = ((OIDCTokenResponse) response.toSuccessResponse()).getOIDCTokens();
    verify(tokens);
    return tokens;
  }

  /** Validates the ID token with the keys of jwks_uri, and the access token if there is an at_hash. */
  IDTokenClaimsSet verify(OIDCTokens tokens) throws Exception {
    JWSAlgorithm alg = JWSAlgorithm.parse((String) own.get("id_token_signed_response_alg"));
    JWKSet keys = JWKSet.parse(send(new HTTPRequest(HTTPRequest.Method.GET, metadata.getJWKSetURI())).getBody());
    IDTokenValidator validator = new IDTokenValidator(new Issuer(Stage.text("issuer")), id, alg, keys);
    IDTokenClaimsSet claims = validator.validate(tokens.getIDToken(), null);
    Stage.check(claims.getSubject().getValue().equals(Stage.text("sub")), "sub is " + claims.getSubject());
    if (claims.getAccessTokenHash() != null) {
      AccessTokenValidator.validate(tokens.getAccessToken(), alg, claims.getAccessTokenHash());
    }
    return claims;
  }

  HTTPResponse userinfo(AccessToken token) throws Exception {
    HTTPRequest request = new UserInfoRequest(metadata.getUserInfoEndpointURI(), token).toHTTPRequest();
    if (proofs != null) {
      request.setDPoP(proofs.createDPoPJWT("GET", metadata.getUserInfoEndpointURI(), token, nonce));
    }
    return send(request);
  }

  void reads(AccessToken token) throws Exception {
    UserInfoResponse response = UserInfoResponse.parse(userinfo(token));
    Stage.check(response.indicatesSuccess(), "userinfo refuses the token");
    String sub = response.toSuccessResponse().getUserInfo().getSubject().getValue();
    Stage.check(sub.equals(Stage.text("sub")), "userinfo is about " + sub);
  }

  /** Runs a whole flow. The first poll is sent as soon as the request is approved. */
  OIDCTokens collect(CIBARequest request) throws Exception {
    AuthRequestID authReqId = initiate(request).getAuthRequestID();
    Stage.decide(authReqId.getValue(), "allow");
    OIDCTokens tokens = tokensOf(poll(authReqId));
    reads(tokens.getAccessToken());
    return tokens;
  }

  void refresh(OIDCTokens tokens) throws Exception {
    OIDCTokens refreshed = tokensOf(token(new RefreshTokenGrant(tokens.getRefreshToken())));
    Stage.check(verify(refreshed).getAccessTokenHash() != null, "the refreshed ID token has no at_hash");
    reads(refreshed.getAccessToken());
  }
}
