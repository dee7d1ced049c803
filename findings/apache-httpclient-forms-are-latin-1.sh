#!/bin/sh
# Package:   Apache HttpClient 4.5.14 (httpclient) and 5.5.1 (httpclient5)
# Set-up:    A CIBA client in Java sends the binding message "Zahlung für Ana: 5 €" with
#            new UrlEncodedFormEntity(parameters).
# Guess:     The form is encoded as UTF-8, as RFC 6749 Appendix B says for every parameter of OAuth.
# Behaviour: Both versions encode it as ISO-8859-1, in which "€" does not exist: it is replaced by "?" without an error, and
#            the user reads another message than the client sent. Version 5 declares the charset, version 4 does not, so that
#            a server cannot know that %FC is an "ü". With a second argument, StandardCharsets.UTF_8, both send UTF-8.
# Output:    4.5.14: binding_message=Zahlung+f%FCr+Ana%3A+5+%3F as application/x-www-form-urlencoded; 5.5.1: the same as application/x-www-form-urlencoded; charset=ISO-8859-1
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat > pom.xml <<'EOF'
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>example</groupId>
  <artifactId>forms</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.httpcomponents</groupId>
      <artifactId>httpclient</artifactId>
      <version>4.5.14</version>
    </dependency>
    <dependency>
      <groupId>org.apache.httpcomponents.client5</groupId>
      <artifactId>httpclient5</artifactId>
      <version>5.5.1</version>
    </dependency>
  </dependencies>
</project>
EOF
mvn --batch-mode --quiet dependency:copy-dependencies -DoutputDirectory=libraries >download 2>&1 || { cat download >&2; exit 2; }
cat > Try.java <<'EOF'
import com.sun.net.httpserver.HttpServer;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.Charset;
import java.nio.charset.StandardCharsets;
import java.util.List;

class Try {
  static final String NAME = "binding_message";
  static final String MESSAGE = "Zahlung f\u00fcr Ana: 5 \u20ac";
  static volatile String read;

  public static void main(String[] args) throws Exception {
    var server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
    server.createContext("/", exchange -> {
      var body = new String(exchange.getRequestBody().readAllBytes(), StandardCharsets.US_ASCII);
      read = body + " as " + exchange.getRequestHeaders().getFirst("Content-Type");
      exchange.sendResponseHeaders(204, -1);
      exchange.close();
    });
    server.start();
    var url = "http://127.0.0.1:" + server.getAddress().getPort() + "/";
    var four = sentBy4(url, null);
    var five = sentBy5(url, null);
    var utf8 = List.of(sentBy4(url, StandardCharsets.UTF_8), sentBy5(url, StandardCharsets.UTF_8));
    server.stop(0);

    var form = "binding_message=Zahlung+f%FCr+Ana%3A+5+%3F";
    System.out.println("4.5.14: " + four + "; 5.5.1: " + five.replace(form, "the same"));
    var type = "application/x-www-form-urlencoded";
    var isAsDescribed = four.equals(form + " as " + type)
        && five.equals(form + " as " + type + "; charset=ISO-8859-1")
        && utf8.stream().allMatch(sent -> sent.contains("=Zahlung+f%C3%BCr+Ana%3A+5+%E2%82%AC as "));
    System.exit(isAsDescribed ? 0 : 1);
  }

  static String sentBy4(String url, Charset charset) throws Exception {
    var parameters = List.of(new org.apache.http.message.BasicNameValuePair(NAME, MESSAGE));
    var post = new org.apache.http.client.methods.HttpPost(url);
    post.setEntity(charset == null
        ? new org.apache.http.client.entity.UrlEncodedFormEntity(parameters)
        : new org.apache.http.client.entity.UrlEncodedFormEntity(parameters, charset));
    try (var client = org.apache.http.impl.client.HttpClients.createDefault()) {
      client.execute(post).close();
    }
    return read;
  }

  static String sentBy5(String url, Charset charset) throws Exception {
    var parameters = List.of(new org.apache.hc.core5.http.message.BasicNameValuePair(NAME, MESSAGE));
    var post = new org.apache.hc.client5.http.classic.methods.HttpPost(url);
    post.setEntity(charset == null
        ? new org.apache.hc.client5.http.entity.UrlEncodedFormEntity(parameters)
        : new org.apache.hc.client5.http.entity.UrlEncodedFormEntity(parameters, charset));
    try (var client = org.apache.hc.client5.http.impl.classic.HttpClients.createDefault()) {
      client.execute(post, response -> null);
    }
    return read;
  }
}
EOF
java -cp 'libraries/*' Try.java 2>errors || { cat errors >&2; exit 1; }
