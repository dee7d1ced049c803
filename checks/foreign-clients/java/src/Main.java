import com.nimbusds.jose.JOSEObjectType;
import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.JWSHeader;
import com.nimbusds.jose.crypto.RSASSASigner;
import com.nimbusds.jose.jwk.Curve;
import com.nimbusds.jose.jwk.ECKey;
import com.nimbusds.jose.jwk.JWK;
import com.nimbusds.jose.jwk.JWKSet;
import com.nimbusds.jose.util.Base64;
import com.nimbusds.jose.util.X509CertUtils;
import com.nimbusds.jwt.SignedJWT;
import com.nimbusds.oauth2.sdk.GrantType;
import com.nimbusds.oauth2.sdk.TokenIntrospectionRequest;
import com.nimbusds.oauth2.sdk.TokenIntrospectionSuccessResponse;
import com.nimbusds.oauth2.sdk.TokenRevocationRequest;
import com.nimbusds.oauth2.sdk.auth.ClientAuthenticationMethod;
import com.nimbusds.oauth2.sdk.ciba.AuthRequestID;
import com.nimbusds.oauth2.sdk.ciba.BackChannelTokenDeliveryMode;
import com.nimbusds.oauth2.sdk.ciba.CIBAPingCallback;
import com.nimbusds.oauth2.sdk.ciba.CIBAPushCallback;
import com.nimbusds.oauth2.sdk.ciba.CIBARequest;
import com.nimbusds.oauth2.sdk.ciba.CIBARequestAcknowledgement;
import com.nimbusds.oauth2.sdk.ciba.CIBASignedRequestClaimsSet;
import com.nimbusds.oauth2.sdk.client.ClientDeleteRequest;
import com.nimbusds.oauth2.sdk.client.ClientReadRequest;
import com.nimbusds.oauth2.sdk.client.ClientRegistrationResponse;
import com.nimbusds.oauth2.sdk.http.HTTPRequest;
import com.nimbusds.oauth2.sdk.id.Audience;
import com.nimbusds.oauth2.sdk.id.Issuer;
import com.nimbusds.oauth2.sdk.id.JWTID;
import com.nimbusds.oauth2.sdk.token.AccessTokenType;
import com.nimbusds.oauth2.sdk.token.BearerAccessToken;
import com.nimbusds.openid.connect.sdk.claims.IDTokenClaimsSet;
import com.nimbusds.openid.connect.sdk.rp.OIDCClientInformation;
import com.nimbusds.openid.connect.sdk.rp.OIDCClientInformationResponse;
import com.nimbusds.openid.connect.sdk.rp.OIDCClientMetadata;
import com.nimbusds.openid.connect.sdk.rp.OIDCClientRegistrationRequest;
import com.nimbusds.openid.connect.sdk.rp.OIDCClientRegistrationResponseParser;
import com.nimbusds.openid.connect.sdk.token.OIDCTokens;
import java.net.URI;
import java.security.cert.X509Certificate;
import java.security.interfaces.ECPublicKey;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import net.minidev.json.JSONObject;

/**
 * A client that uses the Nimbus OAuth 2.0 SDK and the TLS of the JDK. The default key manager of the JDK selects the
 * client certificate. The library builds and parses all messages. It has no polling loop.
 */
public final class Main {
  private interface Flow {
    String play() throws Exception;
  }

  public static void main(String[] arguments) throws Exception {
    // Each call uses a new connection.
    System.setProperty("http.keepAlive", "false");
    Stage.open(arguments[0]);
    // The version of the library is in the name of its file.
    String library = CIBARequest.class.getProtectionDomain().getCodeSource().getLocation().getPath();
    System.out.println(library.replaceAll(".*/|\\.jar$", "") + ", Java " + Runtime.version());
    Map<String, Flow> flows = new LinkedHashMap<>();
    flows.put("poll", Main::pollOnATimer);
    flows.put("poll, denied", Main::denied);
    flows.put("poll with private_key_jwt", Main::pollWithAssertion);
    flows.put("ping", Main::ping);
    flows.put("push", () -> push(Caller.as("push", "client_secret_basic")));
    flows.put("push, denied", Main::pushDenied);
    flows.put("registration", Main::registration);
    flows.put("signed request", Main::signedRequest);
    flows.put("tls_client_auth", () -> mutualTls("pki", "tls_client_auth"));
    flows.put("self_signed_tls_client_auth", () -> mutualTls("self_signed", "self_signed_tls_client_auth"));
    flows.put("certificate-bound tokens", Main::boundTokens);
    flows.put("push with tls_client_auth", () -> push(Caller.as("push_pki", "tls_client_auth")));
    flows.put("DPoP", Main::dpop);
    for (Map.Entry<String, Flow> flow : flows.entrySet()) play(flow.getKey(), flow.getValue());
    System.exit(0);
  }

  private static void play(String name, Flow flow) {
    try {
      String how = flow.play();
      System.out.println("nimbus: " + name + " … ok" + (how == null ? "" : " (" + how + ")"));
    } catch (Throwable problem) {
      System.out.println("nimbus: " + name + " … NOT ok");
      problem.printStackTrace();
      System.exit(1);
    }
  }

  /** Begins a poll every interval seconds, counted from the acknowledgement. The duration of a poll does not matter. */
  private static String pollOnATimer() throws Exception {
    Caller caller = Caller.as("poll", "client_secret_basic");
    CIBARequestAcknowledgement response = caller.initiate(caller.asked().build());
    Stage.check(response.getMinWaitInterval() == 1, "interval " + response.getMinWaitInterval());
    AuthRequestID authReqId = response.getAuthRequestID();
    long begin = System.nanoTime();
    for (int polls = 1; polls <= 4; polls++) {
      pauseUntil(begin, polls);
      caller.isRefused(caller.poll(authReqId), "authorization_pending");
    }
    Stage.decide(authReqId.getValue(), "allow");
    pauseUntil(begin, 5);
    OIDCTokens tokens = caller.tokensOf(caller.poll(authReqId));
    caller.refresh(tokens);
    URI revocation = caller.metadata.getRevocationEndpointURI();
    caller.send(new TokenRevocationRequest(revocation, caller.authentication(), tokens.getAccessToken()))
        .ensureStatusCode(200);
    Stage.check(!introspect(caller, tokens).isActive(), "a revoked token is active");
    return null;
  }

  private static void pauseUntil(long begin, int seconds) throws Exception {
    long rest = begin / 1_000_000 + seconds * 1000L - System.nanoTime() / 1_000_000;
    if (rest > 0) Thread.sleep(rest);
  }

  private static TokenIntrospectionSuccessResponse introspect(Caller caller, OIDCTokens tokens) throws Exception {
    URI endpoint = caller.metadata.getIntrospectionEndpointURI();
    return TokenIntrospectionSuccessResponse.parse(
        caller.send(new TokenIntrospectionRequest(endpoint, caller.authentication(), tokens.getAccessToken())));
  }

  private static String denied() throws Exception {
    Caller caller = Caller.as("poll", "client_secret_basic");
    AuthRequestID authReqId = caller.initiate(caller.asked().build()).getAuthRequestID();
    Stage.decide(authReqId.getValue(), "deny");
    caller.isRefused(caller.poll(authReqId), "access_denied");
    return null;
  }

  private static String pollWithAssertion() throws Exception {
    Caller caller = Caller.as("assertion", "private_key_jwt");
    caller.refresh(caller.collect(caller.asked().build()));
    return null;
  }

  private static String ping() throws Exception {
    Caller caller = Caller.as("ping", "client_secret_post");
    BearerAccessToken token = new BearerAccessToken(24);
    CIBARequest request = caller.asked().clientNotificationToken(token).build();
    AuthRequestID authReqId = caller.initiate(request).getAuthRequestID();
    Stage.decide(authReqId.getValue(), "allow");
    HTTPRequest heard = Stage.notified(authReqId.getValue());
    CIBAPingCallback ping = CIBAPingCallback.parse(heard);
    Stage.check(ping.getAccessToken().equals(token), "the token of the ping is another one");
    Stage.check(ping.getAuthRequestID().equals(authReqId), "the ping is about another request");
    Stage.check(heard.getURI().getPath().equals("/ping"), "pinged at " + heard.getURI());
    caller.tokensOf(caller.poll(authReqId));
    return "the endpoint is of com.sun.net.httpserver";
  }

  private static CIBAPushCallback pushed(Caller caller, String action) throws Exception {
    BearerAccessToken token = new BearerAccessToken(24);
    CIBARequest request = caller.asked().clientNotificationToken(token).build();
    AuthRequestID authReqId = caller.initiate(request).getAuthRequestID();
    Stage.decide(authReqId.getValue(), action);
    CIBAPushCallback push = CIBAPushCallback.parse(Stage.notified(authReqId.getValue()));
    Stage.check(push.getAccessToken().equals(token), "the token of the push is another one");
    Stage.check(push.getAuthRequestID().equals(authReqId), "the push is about another request");
    return push;
  }

  private static String push(Caller caller) throws Exception {
    CIBAPushCallback push = pushed(caller, "allow");
    OIDCTokens tokens = push.toTokenDelivery().getOIDCTokens();
    IDTokenClaimsSet claims = caller.verify(tokens);
    Stage.check(claims.getAccessTokenHash() != null, "the pushed ID token has no at_hash");
    String about = claims.getStringClaim("urn:openid:params:jwt:claim:auth_req_id");
    Stage.check(push.getAuthRequestID().getValue().equals(about), "the ID token is of another request");
    caller.reads(tokens.getAccessToken());
    return "the endpoint is of com.sun.net.httpserver";
  }

  private static String pushDenied() throws Exception {
    CIBAPushCallback push = pushed(Caller.as("push", "client_secret_basic"), "deny");
    String error = push.toErrorDelivery().getErrorObject().getCode();
    Stage.check("access_denied".equals(error), "pushed " + error);
    return "the endpoint is of com.sun.net.httpserver";
  }

  private static String registration() throws Exception {
    register(null, new OIDCClientMetadata());
    // The subject DN is spelled as Java spells it. The JWK contains the certificate in the form that Nimbus writes.
    OIDCClientMetadata byName = new OIDCClientMetadata();
    byName.setTokenEndpointAuthMethod(ClientAuthenticationMethod.TLS_CLIENT_AUTH);
    byName.setTLSClientAuthSubjectDN(Stage.certificate("pki").getSubjectX500Principal().getName());
    byName.setTLSClientCertificateBoundAccessTokens(true);
    register("pki", byName);
    OIDCClientMetadata byCertificate = new OIDCClientMetadata();
    byCertificate.setTokenEndpointAuthMethod(ClientAuthenticationMethod.SELF_SIGNED_TLS_CLIENT_AUTH);
    byCertificate.setJWKSet(new JWKSet(jwkOf(Stage.certificate("self_signed"))));
    register("self_signed", byCertificate);
    return "one client with a secret, and one for each kind of mutual TLS";
  }

  private static JWK jwkOf(X509Certificate certificate) throws Exception {
    return new ECKey.Builder(Curve.P_256, (ECPublicKey) certificate.getPublicKey())
        .x509CertChain(List.of(Base64.encode(certificate.getEncoded())))
        .x509CertSHA256Thumbprint(X509CertUtils.computeSHA256Thumbprint(certificate))
        .build();
  }

  /**
   * Registers a client, runs a flow with the certificate of the client `shown`, reads the registration, and deletes it.
   */
  private static void register(String shown, OIDCClientMetadata metadata) throws Exception {
    Caller anonymous = new Caller(new JSONObject(Map.of("client_id", "none")), "none", null);
    metadata.setGrantTypes(Set.of(GrantType.CIBA, GrantType.REFRESH_TOKEN));
    metadata.setBackChannelTokenDeliveryMode(BackChannelTokenDeliveryMode.POLL);
    // This call adds the default members, for instance response_types.
    metadata.applyDefaults();
    URI endpoint = anonymous.metadata.getRegistrationEndpointURI();
    ClientRegistrationResponse response = OIDCClientRegistrationResponseParser.parse(
        anonymous.send(new OIDCClientRegistrationRequest(endpoint, metadata, null)));
    if (!response.indicatesSuccess()) {
      throw new AssertionError("refused: " + response.toErrorResponse().getErrorObject().toJSONObject());
    }
    OIDCClientInformation registered = ((OIDCClientInformationResponse) response).getOIDCClientInformation();
    String alg = registered.getOIDCMetadata().getIDTokenJWSAlg().getName();
    JSONObject own = new JSONObject();
    own.put("client_id", registered.getID().getValue());
    own.put("id_token_signed_response_alg", alg);
    if (registered.getSecret() != null) own.put("client_secret", registered.getSecret().getValue());
    String method = registered.getOIDCMetadata().getTokenEndpointAuthMethod().getValue();
    Caller caller = new Caller(own, method, shown == null ? null : Stage.client(shown));
    caller.collect(caller.asked().build());
    URI management = registered.getRegistrationURI();
    BearerAccessToken token = registered.getRegistrationAccessToken();
    anonymous.send(new ClientReadRequest(management, token)).ensureStatusCode(200);
    anonymous.send(new ClientDeleteRequest(management, token)).ensureStatusCode(204);
    anonymous.send(new ClientReadRequest(management, token)).ensureStatusCode(401);
    caller.send(caller.asked().build()).ensureStatusCode(401);
  }

  private static String signedRequest() throws Exception {
    Caller caller = Caller.as("signed", "private_key_jwt");
    Date now = new Date();
    Date later = new Date(now.getTime() + 60_000);
    Issuer issuer = new Issuer(caller.id.getValue());
    CIBASignedRequestClaimsSet claims = new CIBASignedRequestClaimsSet(
        caller.asked().build(), issuer, new Audience(Stage.text("issuer")), now, now, later, new JWTID());
    JWSHeader header = new JWSHeader.Builder(JWSAlgorithm.PS256)
        .keyID(caller.jwk().getKeyID())
        .type(JOSEObjectType.JWT)
        .build();
    SignedJWT signed = new SignedJWT(header, claims.toJWTClaimsSet());
    signed.sign(new RSASSASigner(caller.jwk().toRSAKey()));
    URI endpoint = caller.metadata.getBackChannelAuthenticationEndpointURI();
    CIBARequest request = new CIBARequest.Builder(caller.authentication(), signed).endpointURI(endpoint).build();
    caller.refresh(caller.collect(request));
    caller.send(caller.asked().build()).ensureStatusCode(400);
    return null;
  }

  private static String mutualTls(String name, String method) throws Exception {
    Caller caller = Caller.as(name, method);
    OIDCTokens tokens = caller.collect(caller.asked().build());
    caller.refresh(tokens);
    for (JSONObject shown : new JSONObject[] {null, Stage.client("bound")}) {
      Caller other = new Caller(caller.own, method, shown);
      other.userinfo(tokens.getAccessToken()).ensureStatusCode(401);
      other.send(other.asked().build()).ensureStatusCode(401);
    }
    return null;
  }

  private static String boundTokens() throws Exception {
    Caller caller = Caller.as("bound", "client_secret_basic");
    OIDCTokens tokens = caller.collect(caller.asked().build());
    caller.refresh(tokens);
    Stage.check(
        introspect(caller, tokens).getX509CertificateConfirmation() != null,
        "introspection does not tell the certificate");
    for (JSONObject shown : new JSONObject[] {null, Stage.client("self_signed")}) {
      Caller other = new Caller(caller.own, "client_secret_basic", shown);
      other.userinfo(tokens.getAccessToken()).ensureStatusCode(401);
    }
    return null;
  }

  private static String dpop() throws Exception {
    Caller caller = Caller.as("dpop", "private_key_jwt");
    caller.proveKey();
    OIDCTokens tokens = caller.collect(caller.asked().build());
    Stage.check(tokens.getAccessToken().getType().equals(AccessTokenType.DPOP), "not a DPoP token");
    caller.refresh(tokens);
    caller.proveKey();
    caller.userinfo(tokens.getAccessToken()).ensureStatusCode(401);
    return "nonces are kept by hand";
  }
}
