package main

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

type client struct {
	ID         string `json:"client_id"`
	Secret     string `json:"client_secret"`
	IDTokenAlg string `json:"id_token_signed_response_alg"`
	Jwk        claims
	Pem        string
	Cert, Key  string
	// The authentication method. A registration response contains it. For the clients in material.json, the flows set it.
	Method          string `json:"token_endpoint_auth_method"`
	ManagementURI   string `json:"registration_client_uri"`
	ManagementToken string `json:"registration_access_token"`
}

var material struct {
	Issuer, Authority, Decide, Sub string
	LoginHint                      string `json:"login_hint"`
	Endpoint                       struct {
		Port      int
		Key, Cert string
	}
	Clients map[string]client
}

type serverMetadata struct {
	Authentication string `json:"backchannel_authentication_endpoint"`
	Token          string `json:"token_endpoint"`
	Userinfo       string `json:"userinfo_endpoint"`
	Introspection  string `json:"introspection_endpoint"`
	Revocation     string `json:"revocation_endpoint"`
	Registration   string `json:"registration_endpoint"`
	JwksURI        string `json:"jwks_uri"`
}

type answer struct {
	status int
	header http.Header
	text   []byte
	body   claims
}

func (a answer) is(status int, code string) answer {
	holds := a.status == status && (code == "" || a.body["error"] == code)
	check(holds, "expected %d %s, got %d %s", status, code, a.status, a.text)
	return a
}

func (a answer) member(name string) string {
	value, isThere := a.body[name].(string)
	check(isThere, "no %s in %s", name, a.text)
	return value
}

// caller is a client with its own connections.
type caller struct {
	own      client
	http     *http.Client
	metadata serverMetadata
	// For DPoP: the key, and the newest nonce that the server has sent.
	key     *ecdsa.PrivateKey
	nonce   string
	resumed int
}

// newestTLS is the newest TLS version that callers offer.
var newestTLS uint16 = tls.VersionTLS13

// newCaller returns a client that authenticates as own and has the certificate of shown. crypto/tls decides whether to
// send the certificate: it compares the issuer with the authorities that the server lists in the handshake. Every call
// uses a new connection, which resumes the TLS session.
func newCaller(own client, shown client) *caller {
	authority, err := os.ReadFile(material.Authority)
	must(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	config := &tls.Config{RootCAs: pool, MaxVersion: newestTLS, ClientSessionCache: tls.NewLRUClientSessionCache(8)}
	if shown.Cert != "" {
		certificate, err := tls.LoadX509KeyPair(shown.Cert, shown.Key)
		must(err)
		config.Certificates = []tls.Certificate{certificate}
	}
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true, ForceAttemptHTTP2: true}
	c := &caller{own: own, http: &http.Client{Transport: transport, Timeout: 10 * time.Second}}
	c.getJSON(material.Issuer+"/.well-known/openid-configuration", &c.metadata)
	return c
}

func (c *caller) send(method, target, contentType, body string, headers map[string]string) answer {
	request, err := http.NewRequest(method, target, strings.NewReader(body))
	must(err)
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	response, err := c.http.Do(request)
	must(err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	must(err)
	if response.TLS.DidResume {
		c.resumed++
	}
	if nonce := response.Header.Get("DPoP-Nonce"); nonce != "" {
		c.nonce = nonce
	}
	result := answer{status: response.StatusCode, header: response.Header, text: text}
	if json.Unmarshal(text, &result.body) != nil {
		result.body = claims{}
	}
	return result
}

func (c *caller) getJSON(target string, into any) {
	must(json.Unmarshal(c.send("GET", target, "", "", nil).is(200, "").text, into))
}

// post sends a form, with the client's authentication.
func (c *caller) post(target string, form url.Values, headers map[string]string) answer {
	sent := map[string]string{}
	for name, value := range headers {
		sent[name] = value
	}
	switch c.own.Method {
	case "client_secret_basic":
		request := &http.Request{Header: http.Header{}}
		request.SetBasicAuth(url.QueryEscape(c.own.ID), url.QueryEscape(c.own.Secret))
		sent["Authorization"] = request.Header.Get("Authorization")
	case "client_secret_post":
		form.Set("client_id", c.own.ID)
		form.Set("client_secret", c.own.Secret)
	case "private_key_jwt":
		form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		form.Set("client_assertion", assertion(c.own, material.Issuer))
	default:
		form.Set("client_id", c.own.ID)
	}
	return c.send("POST", target, "application/x-www-form-urlencoded", form.Encode(), sent)
}

func asked() url.Values {
	return url.Values{
		"login_hint":      {material.LoginHint},
		"scope":           {"openid offline_access"},
		"binding_message": {"Coffee 4.20"},
	}
}

func (c *caller) initiate(parameters url.Values) answer {
	return c.post(c.metadata.Authentication, parameters, nil)
}

// token sends a token request. If the server demands a DPoP nonce, token sends the request once more with the nonce.
func (c *caller) token(form url.Values) answer {
	headers := map[string]string{}
	for range 2 {
		if c.key != nil {
			headers["DPoP"] = proof(c.key, "POST", c.metadata.Token, c.nonce, "")
		}
		result := c.post(c.metadata.Token, form, headers)
		if result.body["error"] != "use_dpop_nonce" {
			return result
		}
	}
	panic("the server does not accept its own nonce")
}

func (c *caller) poll(authReqID string) answer {
	return c.token(url.Values{"grant_type": {"urn:openid:params:grant-type:ciba"}, "auth_req_id": {authReqID}})
}

func (c *caller) userinfo(accessToken string) answer {
	headers := map[string]string{"Authorization": "Bearer " + accessToken}
	if c.key != nil {
		headers["Authorization"] = "DPoP " + accessToken
		headers["DPoP"] = proof(c.key, "GET", c.metadata.Userinfo, c.nonce, accessToken)
	}
	return c.send("GET", c.metadata.Userinfo, "", "", headers)
}

func (c *caller) reads(accessToken string) {
	sub := c.userinfo(accessToken).is(200, "").member("sub")
	check(sub == material.Sub, "userinfo is about %s", sub)
}

// collect runs a whole flow. It sends the first poll as soon as the request is approved.
func (c *caller) collect(parameters url.Values) answer {
	authReqID := c.initiate(parameters).is(200, "").member("auth_req_id")
	decide(authReqID, "allow")
	tokens := c.poll(authReqID).is(200, "")
	c.verifyIDToken(tokens.member("id_token"), tokens.member("access_token"))
	c.reads(tokens.member("access_token"))
	return tokens
}

func (c *caller) refresh(tokens answer) {
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.member("refresh_token")}}
	refreshed := c.token(form).is(200, "")
	claims := c.verifyIDToken(refreshed.member("id_token"), refreshed.member("access_token"))
	check(claims["at_hash"] != nil, "the refreshed ID token has no at_hash")
	c.reads(refreshed.member("access_token"))
}
