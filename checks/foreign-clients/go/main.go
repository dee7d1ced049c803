// A CIBA client that uses only Go's standard library. crypto/tls selects the client's certificate. net/http makes the
// calls and receives the notifications. OAuth, CIBA and JWT are implemented here, because the library does not have
// them.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"
)

type notification struct {
	path, authorization string
	body                claims
}

var (
	received = map[string]notification{}
	arrived  = sync.NewCond(&sync.Mutex{})
)

func listen() {
	handler := http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		heard := notification{path: request.URL.Path, authorization: request.Header.Get("Authorization")}
		must(json.NewDecoder(request.Body).Decode(&heard.body))
		response.WriteHeader(http.StatusNoContent)
		arrived.L.Lock()
		received[heard.body["auth_req_id"].(string)] = heard
		arrived.L.Unlock()
		arrived.Broadcast()
	})
	endpoint := material.Endpoint
	server := &http.Server{Addr: fmt.Sprintf("127.0.0.1:%d", endpoint.Port), Handler: handler}
	go func() { must(server.ListenAndServeTLS(endpoint.Cert, endpoint.Key)) }()
}

func notified(authReqID string) notification {
	late := false
	timer := time.AfterFunc(10*time.Second, func() {
		arrived.L.Lock()
		late = true
		arrived.L.Unlock()
		arrived.Broadcast()
	})
	defer timer.Stop()
	arrived.L.Lock()
	defer arrived.L.Unlock()
	for {
		heard, isThere := received[authReqID]
		if isThere {
			return heard
		}
		check(!late, "no notification within 10 s")
		arrived.Wait()
	}
}

var anonymous *caller

func decide(authReqID, action string) {
	form := url.Values{"auth_req_id": {authReqID}, "action": {action}}
	anonymous.send("POST", material.Decide, "application/x-www-form-urlencoded", form.Encode(), nil).is(200, "")
}

func as(name, method string) *caller {
	own := material.Clients[name]
	own.Method = method
	return newCaller(own, own)
}

// pollOnATicker begins a poll every interval seconds, counted from the acknowledgement. The duration of a poll does not
// matter.
func pollOnATicker() string {
	c := as("poll", "client_secret_basic")
	response := c.initiate(asked()).is(200, "")
	check(response.body["interval"] == 1.0, "interval %v", response.body["interval"])
	authReqID := response.member("auth_req_id")
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for range 4 {
		<-ticker.C
		c.poll(authReqID).is(400, "authorization_pending")
	}
	decide(authReqID, "allow")
	<-ticker.C
	tokens := c.poll(authReqID).is(200, "")
	c.verifyIDToken(tokens.member("id_token"), tokens.member("access_token"))
	c.refresh(tokens)
	c.post(c.metadata.Revocation, url.Values{"token": {tokens.member("access_token")}}, nil).is(200, "")
	seen := c.post(c.metadata.Introspection, url.Values{"token": {tokens.member("access_token")}}, nil).is(200, "")
	check(seen.body["active"] == false, "a revoked token is active")
	return ""
}

func denied() string {
	c := as("poll", "client_secret_basic")
	authReqID := c.initiate(asked()).is(200, "").member("auth_req_id")
	decide(authReqID, "deny")
	c.poll(authReqID).is(400, "access_denied")
	return ""
}

func pollWithAssertion() string {
	c := as("assertion", "private_key_jwt")
	c.refresh(c.collect(asked()))
	return ""
}

func initiateNotified(c *caller, path, action string) (string, notification) {
	parameters, token := asked(), randomText()
	parameters.Set("client_notification_token", token)
	authReqID := c.initiate(parameters).is(200, "").member("auth_req_id")
	decide(authReqID, action)
	heard := notified(authReqID)
	isExpected := heard.path == path && heard.authorization == "Bearer "+token
	check(isExpected, "notified at %s as %s", heard.path, heard.authorization)
	return authReqID, heard
}

func ping() string {
	c := as("ping", "client_secret_post")
	authReqID, heard := initiateNotified(c, "/ping", "allow")
	check(len(heard.body) == 1, "the ping has %d members", len(heard.body))
	tokens := c.poll(authReqID).is(200, "")
	c.verifyIDToken(tokens.member("id_token"), tokens.member("access_token"))
	return ""
}

func push(c *caller) string {
	authReqID, heard := initiateNotified(c, "/push", "allow")
	accessToken := heard.body["access_token"].(string)
	payload := c.verifyIDToken(heard.body["id_token"].(string), accessToken)
	check(payload["urn:openid:params:jwt:claim:auth_req_id"] == authReqID, "the ID token is of another request")
	check(payload["at_hash"] != nil, "the pushed ID token has no at_hash")
	c.reads(accessToken)
	return ""
}

func pushDenied() string {
	_, heard := initiateNotified(as("push", "client_secret_basic"), "/push", "deny")
	check(heard.body["error"] == "access_denied", "pushed %v", heard.body)
	return ""
}

func registration() string {
	metadata := `{"grant_types":["urn:openid:params:grant-type:ciba","refresh_token"],
		"backchannel_token_delivery_mode":"poll"}`
	registered := anonymous.send("POST", anonymous.metadata.Registration, "application/json", metadata, nil).is(201, "")
	var own client
	must(json.Unmarshal(registered.text, &own))
	check(own.Method == "client_secret_basic" && own.IDTokenAlg == "RS256", "registered as %s", registered.text)
	c := newCaller(own, own)
	c.collect(asked())
	authorization := map[string]string{"Authorization": "Bearer " + own.ManagementToken}
	anonymous.send("GET", own.ManagementURI, "", "", authorization).is(200, "")
	anonymous.send("DELETE", own.ManagementURI, "", "", authorization).is(204, "")
	c.initiate(asked()).is(401, "invalid_client")
	return ""
}

func signedRequest() string {
	c := as("signed", "private_key_jwt")
	now := time.Now().Unix()
	payload := claims{
		"iss": c.own.ID, "aud": material.Issuer, "jti": randomText(), "iat": now, "nbf": now, "exp": now + 60,
		"scope": "openid offline_access", "login_hint": material.LoginHint, "binding_message": "Coffee 4.20",
	}
	header := claims{"alg": "PS256", "kid": c.own.Jwk["kid"]}
	c.refresh(c.collect(url.Values{"request": {signJwt(parseKey(c.own.Pem), header, payload)}}))
	c.initiate(asked()).is(400, "invalid_request")
	return ""
}

// inBothVersions runs a flow with TLS 1.2 and with TLS 1.3, because the two versions resume sessions in different ways.
func inBothVersions(play func() *caller) string {
	defer func() { newestTLS = tls.VersionTLS13 }()
	how := []string{}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		newestTLS = version
		c, name := play(), tls.VersionName(version)
		check(c.resumed > 0, "no session was resumed with %s", name)
		how = append(how, fmt.Sprintf("%s with %d sessions resumed", name, c.resumed))
	}
	return strings.Join(how, ", ")
}

func mutualTLS(name, method string) *caller {
	c := as(name, method)
	tokens := c.collect(asked())
	c.refresh(tokens)
	for _, shown := range []client{{}, material.Clients["bound"]} {
		other := newCaller(c.own, shown)
		other.userinfo(tokens.member("access_token")).is(401, "invalid_token")
		other.initiate(asked()).is(401, "invalid_client")
	}
	return c
}

func boundTokens() *caller {
	c := as("bound", "client_secret_basic")
	tokens := c.collect(asked())
	c.refresh(tokens)
	seen := c.post(c.metadata.Introspection, url.Values{"token": {tokens.member("access_token")}}, nil).is(200, "")
	confirmation, _ := seen.body["cnf"].(map[string]any)
	check(confirmation["x5t#S256"] != nil, "introspection does not tell the certificate")
	for _, shown := range []client{{}, material.Clients["self_signed"]} {
		newCaller(c.own, shown).userinfo(tokens.member("access_token")).is(401, "invalid_token")
	}
	return c
}

func dpop() string {
	newKey := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(err)
		return key
	}
	c := as("dpop", "private_key_jwt")
	c.key = newKey()
	tokens := c.collect(asked())
	check(tokens.member("token_type") == "DPoP", "token_type %s", tokens.member("token_type"))
	c.refresh(tokens)
	c.key = newKey()
	c.userinfo(tokens.member("access_token")).is(401, "invalid_token")
	return ""
}

func main() {
	text, err := os.ReadFile(os.Args[1])
	must(err)
	must(json.Unmarshal(text, &material))
	fmt.Printf("%s\n", runtime.Version())
	anonymous = newCaller(client{}, client{})
	listen()
	for _, flow := range []struct {
		name string
		play func() string
	}{
		{"poll", pollOnATicker},
		{"poll, denied", denied},
		{"poll with private_key_jwt", pollWithAssertion},
		{"ping", ping},
		{"push", func() string { return push(as("push", "client_secret_basic")) }},
		{"push, denied", pushDenied},
		{"registration", registration},
		{"signed request", signedRequest},
		{"tls_client_auth", func() string {
			return inBothVersions(func() *caller { return mutualTLS("pki", "tls_client_auth") })
		}},
		{"self_signed_tls_client_auth", func() string {
			return inBothVersions(func() *caller { return mutualTLS("self_signed", "self_signed_tls_client_auth") })
		}},
		{"certificate-bound tokens", func() string { return inBothVersions(boundTokens) }},
		{"push with tls_client_auth", func() string { return push(as("push_pki", "tls_client_auth")) }},
		{"DPoP", dpop},
	} {
		play(flow.name, flow.play)
	}
}

func play(name string, flow func() string) {
	defer func() {
		if problem := recover(); problem != nil {
			fmt.Printf("go: %s … NOT ok\n", name)
			fmt.Fprintln(os.Stderr, problem)
			os.Exit(1)
		}
	}()
	how := flow()
	if how != "" {
		how = " (" + how + ")"
	}
	fmt.Printf("go: %s … ok%s\n", name, how)
}
