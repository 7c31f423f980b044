"""The phrases of the load generator's callers, in several languages, scripts and lengths."""

from __future__ import annotations

import json

__all__ = ["AGENT_PHRASES", "USER_PHRASES", "escaped"]

USER_PHRASES = (
    "Yes.",
    "No, thank you, that is all.",
    "I ordered a lamp last week and it has not arrived yet, can you check?",
    "The number is seven four one nine, I think, it was in the second mail.",
    "No, the other one. The one that I wanted to have sent to my office.",
    "And what would happen if nobody is there when they try to deliver it?",
    'She said "after six", and I said: fine, as long as it\'s before the shops close.',
    "Well, let me think. I was at home on Monday, that's for sure, because the plumber came, and on Tuesday I had to go"
    " to the dentist at about eleven, so if they came between ten and noon there was nobody here to open the door, and"
    " my neighbour, who usually takes parcels for me, is on holiday until the end of the month.",
    "¿Podría decirme cuánto cuesta el envío a Málaga, por favor?",
    "Können Sie das bitte für Donnerstagnachmittag vormerken? Nördliche Straße, nicht südliche.",
    "J'ai déjà payé, et on m'a dit que ça arriverait à Noël… où en est-on ?",
    "Привет! Подскажите, пожалуйста, когда привезут мой заказ?",
    "明日の午後に予約を変更したいのですが、空いている時間はありますか?",
    "你好,我想查一下我的订单到哪里了。",
    "배송지를 회사로 바꿔 주실 수 있나요?",
    "مرحبا، أريد أن أعرف متى يصل طلبي من فضلكم.",
    "क्या आप मुझे बता सकते हैं कि मेरा पार्सल कब आएगा?",
    "Great 👍 see you then 😀",
)
AGENT_PHRASES = (
    "Of course, I am happy to look that up. Could you tell me the order number, please?",
    "Thank you. I found an order with two items; the first left our warehouse on Monday morning.",
    "I see. That one is still waiting for its second parcel, and both should go out tomorrow.",
    "Then the courier leaves a card, and you may pick it up or ask for another day online.",
    "Natürlich, das ändere ich gern für Sie.",
    "かしこまりました。明日の午後三時はいかがでしょうか。",
)
"""The agent's side of a fixed history; a growing history holds the agent's real answers."""


def escaped(text: str, *, is_ascii: bool) -> bytes:
    """Return a text as the inside of a JSON string, in UTF-8 or with escapes for all but ASCII."""
    return json.dumps(text, ensure_ascii=is_ascii)[1:-1].encode()
