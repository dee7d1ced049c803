import com.nimbusds.common.contenttype.ContentType;
import com.nimbusds.oauth2.sdk.http.HTTPRequest;
import com.nimbusds.oauth2.sdk.util.JSONObjectUtils;
import com.sun.net.httpserver.HttpsConfigurator;
import com.sun.net.httpserver.HttpsServer;
import java.io.ByteArrayInputStream;
import java.net.InetSocketAddress;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;
import net.minidev.json.JSONObject;

/**
 * What the flows share: the material, TLS contexts with client certificates, decisions, and a notification endpoint.
 */
final class Stage {
  static JSONObject material;
  private static final Map<String, BlockingQueue<HTTPRequest>> received = new ConcurrentHashMap<>();
  private static SSLContext anonymous;

  private Stage() {}

  static void open(String file) throws Exception {
    material = JSONObjectUtils.parse(Files.readString(Path.of(file)));
    anonymous = contextOf(null);
    listen();
  }

  static String text(String name) throws Exception {
    return JSONObjectUtils.getString(material, name);
  }

  static JSONObject client(String name) throws Exception {
    return JSONObjectUtils.getJSONObject(JSONObjectUtils.getJSONObject(material, "clients"), name);
  }

  static X509Certificate certificate(String name) throws Exception {
    return (X509Certificate) certificates((String) client(name).get("cert"))[0];
  }

  /**
   * Returns a TLS context with the certificate of a client, if it has one. The default key manager decides whether to
   * send the certificate.
   */
  static SSLContext contextOf(JSONObject shown) throws Exception {
    KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
    if (shown == null || shown.get("cert") == null) keys.init(emptyStore(), null);
    else keys.init(storeOf((String) shown.get("cert"), (String) shown.get("key")), new char[0]);
    KeyStore authorities = emptyStore();
    authorities.setCertificateEntry("authority", certificates(text("authority"))[0]);
    TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    trust.init(authorities);
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
    return context;
  }

  static void decide(String authReqId, String action) throws Exception {
    HTTPRequest request = new HTTPRequest(HTTPRequest.Method.POST, URI.create(text("decide")));
    request.setEntityContentType(ContentType.APPLICATION_URLENCODED);
    request.setBody("auth_req_id=" + authReqId + "&action=" + action);
    request.setSSLSocketFactory(anonymous.getSocketFactory());
    request.send().ensureStatusCode(200);
  }

  /** Waits for the notification about a request. Returns the request in the type that the library parses. */
  static HTTPRequest notified(String authReqId) throws Exception {
    HTTPRequest heard = queue(authReqId).poll(10, TimeUnit.SECONDS);
    check(heard != null, "no notification within 10 s");
    return heard;
  }

  static void check(boolean holds, String message) {
    if (!holds) throw new AssertionError(message);
  }

  static PrivateKey privateKey(String pem) throws Exception {
    String body = pem.replaceAll("-----[A-Z ]+-----|\\s", "");
    PKCS8EncodedKeySpec encoded = new PKCS8EncodedKeySpec(Base64.getDecoder().decode(body));
    try {
      return KeyFactory.getInstance("EC").generatePrivate(encoded);
    } catch (java.security.spec.InvalidKeySpecException notEllipticCurve) {
      return KeyFactory.getInstance("RSA").generatePrivate(encoded);
    }
  }

  private static void listen() throws Exception {
    JSONObject endpoint = JSONObjectUtils.getJSONObject(material, "endpoint");
    KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
    keys.init(storeOf((String) endpoint.get("cert"), (String) endpoint.get("key")), new char[0]);
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(keys.getKeyManagers(), null, null);
    int port = ((Number) endpoint.get("port")).intValue();
    HttpsServer server = HttpsServer.create(new InetSocketAddress("127.0.0.1", port), 0);
    server.setHttpsConfigurator(new HttpsConfigurator(context));
    server.createContext("/", exchange -> {
      try (exchange) {
        HTTPRequest request = new HTTPRequest(
            HTTPRequest.Method.POST, URI.create("https://localhost:" + port + exchange.getRequestURI()));
        request.setHeader("Authorization", exchange.getRequestHeaders().getFirst("Authorization"));
        request.setHeader("Content-Type", exchange.getRequestHeaders().getFirst("Content-Type"));
        request.setBody(new String(exchange.getRequestBody().readAllBytes(), StandardCharsets.UTF_8));
        exchange.sendResponseHeaders(204, -1);
        queue((String) request.getBodyAsJSONObject().get("auth_req_id")).add(request);
      } catch (com.nimbusds.oauth2.sdk.ParseException notJson) {
        throw new IllegalStateException(notJson);
      }
    });
    server.setExecutor(command -> {
      Thread thread = new Thread(command);
      thread.setDaemon(true);
      thread.start();
    });
    server.start();
  }

  private static BlockingQueue<HTTPRequest> queue(String authReqId) {
    return received.computeIfAbsent(authReqId, ignored -> new LinkedBlockingQueue<>());
  }

  private static KeyStore emptyStore() throws Exception {
    KeyStore store = KeyStore.getInstance("PKCS12");
    store.load(null, null);
    return store;
  }

  private static KeyStore storeOf(String certificateFile, String keyFile) throws Exception {
    KeyStore store = emptyStore();
    PrivateKey key = privateKey(Files.readString(Path.of(keyFile)));
    store.setKeyEntry("own", key, new char[0], certificates(certificateFile));
    return store;
  }

  private static Certificate[] certificates(String file) throws Exception {
    ByteArrayInputStream bytes = new ByteArrayInputStream(Files.readAllBytes(Path.of(file)));
    return CertificateFactory.getInstance("X.509").generateCertificates(bytes).toArray(new Certificate[0]);
  }
}
