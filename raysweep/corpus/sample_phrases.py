"""The words and sentences of the synthetic corpus: five levels of made-up learner English.

Written for this project; no learner wrote them.  A line under a prompt is one sentence; an indented line
continues the one above.  `^` marks a sentence that opens a text, `$` one that closes it; all others are used
in between.  `{a|b}` is a choice, `{place}` a choice from the lists below, `{7-30}` a whole number, `<has~have>`
the right and the wrong form.  `[letter]` after a prompt's name puts the first and the last sentence on lines of
their own.  Sentences under `*` are used for every prompt of the level.
"""

# Names, towns and countries of each first language's writers.
HOMES = {
    "Portuguese": ("Ana Paulo Luiza Thiago Camila", "Recife Curitiba Manaus Santos", "Brazil"),
    "Mandarin": ("Li Wei Xiaoming Jing Yan", "Wuhan Chengdu Dalian Xiamen", "China"),
    "Spanish": ("Carmen Diego Lucia Pablo Sofia", "Puebla Cali Sevilla Lima", "Mexico Colombia Spain Peru"),
    "Russian": ("Olga Dmitri Irina Sergey Anya", "Kazan Omsk Samara Tver", "Russia"),
    "German": ("Jonas Heike Lukas Anke Moritz", "Bremen Leipzig Ulm Mainz", "Germany Austria"),
    "Italian": ("Giulia Marco Chiara Luca Elena", "Torino Bari Verona Pisa", "Italy"),
    "French": ("Claire Hugo Amelie Luc Manon", "Lyon Nantes Lille Dijon", "France Belgium"),
    "Arabic": ("Omar Layla Yusuf Huda Karim", "Jeddah Amman Alexandria Tunis", "Egypt Jordan Tunisia"),
    "Japanese": ("Yuki Kenji Aiko Haruto Mika", "Kobe Sapporo Nagoya Sendai", "Japan"),
    "Turkish": ("Elif Mehmet Zeynep Emre Ayse", "Izmir Bursa Antalya Konya", "Turkey"),
}

LISTS = {
    "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "colour": "red blue green black white brown yellow grey",
    "relative": "mother father sister brother uncle aunt cousin grandmother grandfather wife husband",
    "job": "teacher nurse driver cook student waiter farmer dentist secretary engineer shop_assistant police_officer",
    "meal": "rice fish chicken soup salad bread eggs cheese pizza pasta beef fruit ice_cream cake",
    "drink": "coffee tea milk water juice",
    "hobby": "football tennis music dancing swimming reading cooking chess computer_games volleyball the_guitar",
    "room": "kitchen bedroom living_room bathroom garden office",
    "thing": "table bed lamp sofa chair desk computer television picture clock bookshelf",
    "pet": "dog cat bird horse rabbit fish",
    "month": "January February March April May June July August September October November December",
    "season": "spring summer autumn winter",
    "weather": "sunny rainy cloudy windy snowy very_hot quite_cold",
    "shop": "supermarket bakery bookshop pharmacy market department_store",
    "building": "church museum hospital school bank post_office hotel railway_station library stadium",
    "resort": "Greece Thailand Portugal Norway Egypt Canada Ireland Croatia Morocco Scotland",
    "transport": "train plane bus ship car bicycle",
    "clothes": "jacket shirt dress hat scarf pair_of_jeans pair_of_shoes coat",
    "gift": "watch book camera bottle_of_wine necklace box_of_chocolates bag football_shirt",
    "product": "laptop washing_machine mobile_phone vacuum_cleaner printer coffee_machine tablet headset",
    "fault": "stopped_working made_a_strange_noise broke_into_pieces did_not_switch_on smelled_of_smoke",
    "film": "comedy thriller documentary love_story science_fiction_film historical_drama",
    "feeling": "exhausted disappointed relieved nervous delighted embarrassed frightened surprised",
    "skill": "customer_service project_planning bookkeeping web_design negotiation staff_training data_analysis",
    "industry": "tourism banking logistics healthcare education advertising insurance construction",
    "technology": "social_networks smartphones online_courses video_conferencing electric_cars home_automation",
    "drawback": "isolation addiction rising_costs loss_of_privacy stress unfair_competition misinformation",
    "benefit": "flexibility efficiency independence savings transparency motivation cooperation",
    "group": "employees parents teenagers managers consumers students citizens commuters pensioners",
    "measure": "a_congestion_charge stricter_labelling tax_incentives a_mentoring_scheme flexible_working_hours",
    "scholar": "economists sociologists historians linguists policymakers psychologists ethicists urban_planners",
    "abstract": "globalisation automation urbanisation meritocracy austerity multilingualism consumerism "
    "secularisation",
    "virtue": "resilience autonomy accountability solidarity legitimacy authenticity prudence",
    "vice": "complacency inequality polarisation surveillance disenfranchisement short-termism exploitation",
    "realm": "public_discourse higher_education the_labour_market cultural_heritage democratic_institutions "
    "environmental_governance scientific_inquiry",
    "hedge": "arguably ostensibly to_some_extent in_all_likelihood by_and_large paradoxically",
    "nuance": "nuanced far-reaching precarious unprecedented ambivalent contentious multifaceted profound",
}

LEVELS = (
    """
* everyday
I like {hobby} and {hobby}.
My {relative} <is a~is> {job}.
I <don't like~no like> {meal}.
I have {2|3|4|five} {colour} {pet|book|pen|bag|chair}s.
On {day} I <play~playing> {football|tennis|volleyball|chess} with my {relative}.
My favourite colour <is~are> {colour}.
I drink {drink} in the {morning|evening|afternoon}.
It is {weather} today.
# introducing-yourself
^Hi! <My name is~My name> {name}.
^Hello, I'm {name}. I'm from {country}.
I <am~have> {12-60} years old.
I live in {city}, in {country}.
I'm <a ~>{job}. I work in a {shop|hotel|school|hospital|bank}.
I <have~has> {one|two|three} {brother|sister|cousin}s and a {pet}.
In <the~> evening I watch TV and eat {meal}.
I speak {a little|some} English. I <want~want to> learn more.
$Bye! See you {soon|on {day}|tomorrow}.
# my-family
^This is my family. We <are~is> {3-9} people.
^There <are~is> {3-9} people in my family.
My {relative}'s name is {name}. {He|She} <is~has> {5-90} years old.
My {relative} <has~have> {long|short|dark|brown|blond} hair and {blue|green|brown} eyes.
My {relative} <likes~like> {hobby}.
My {relative} works in a {building}.
We <have~has> a {small|big|old|young} {pet}. Its name <is~are> {Max|Bella|Coco|Lucky|Luna}.
My {relative} is {tall|short|thin|nice|funny|pretty} and {quiet|happy|friendly|kind}.
$I love my family <very much~so much very>.
# my-home
^My {house|flat} is {small|big|new|old} and {nice|quiet|clean}.
^I live in a {small|big|new|old} {house|flat} in {city}.
There <is a~is> {colour} {thing} in the {room}.
There <are~is> {two|three|four} {thing}s in my {room}.
The {room} is {small|big|clean|dark|nice}.
The {thing} is {next to|near|in front of|behind} the {thing}.
My {thing} <is~are> {colour} and {old|new}.
We <eat~eats> in the {kitchen|garden|living room}.
# my-day
^I get up at {5-9} o'clock.
^Every day I <get~gets> up at {5-9} o'clock.
Then I eat {meal} and drink {drink}.
I go to {work|school} by {bus|car|train|bicycle} at {7-10} o'clock.
I <have~has> lunch at {11-14} o'clock with my {relative}.
<In~At> the afternoon I play {football|tennis|chess}.
At {18-22} o'clock I cook {meal} and {meal}.
On {day} I go to the {shop} and buy {meal}.
$I go to bed at {9-12} o'clock. Good night!
""",
    """
* past-and-plans
Last {day} I <went~go> to the {shop} and <bought~buy> a {colour} {clothes}.
I'm going to {visit my {relative}|buy a {gift}|learn {hobby}|travel to {resort}} next {month|week|year}.
The weather was {weather}, so we <stayed~stay> at the {hotel|beach|café|museum} for {2-6} hours.
My {relative} <is taller~is more tall> than my {relative}, but {he|she} is younger.
I can't {swim|dance|cook|drive} very well, but I <like trying~like try>.
You should <take~to take> your {clothes} because it is {cold|windy|rainy} in {month}.
It was the {best|worst|funniest|longest} day of the {year|week|month|holiday}.
# last-holiday
^Last {summer|winter|year|month} I <went~was go> to {resort} with my {relative}.
^In {month} we <travelled~travel> to {resort} by {transport}.
We <stayed~was stayed> in a {cheap|small|lovely|modern} hotel near the {beach|station|old town|river}.
Every morning we <ate~eated> {meal} and <drank~drinked> {drink} on the balcony.
First we <visited~visit> a famous {building}, and then we <took~taked> many photos.
The people <were~was> very {friendly|helpful|polite}, but the food was {spicy|expensive|strange|delicious}.
On the last day I <lost~losed> my {clothes}, but a {job} <found~finded> it.
We <came~come> home on {day} because we <had~have> to work.
$I <want~am want> to go there again next {season}.
# birthday-invitation [letter]
^Hi {name},
^Dear {name},
I'm having a party on {day}, {month} {2-28}, because I'll be {18-70} years old.
The party <starts~start> at {5-9} o'clock in the {evening|afternoon} at my {house|flat|office}.
Please bring {some {meal}|a bottle of {juice|water|wine}|your {clothes}}, but don't bring a {gift}.
We are going to {eat {meal}|dance|play games|sing karaoke|listen to music} in the garden.
My {relative} <is making~make> a big cake, and my friends will play {the guitar|some music}.
Can you tell me if you <can come~can to come> before {day}?
My flat is near the {building}; take the number {2-99} bus and get off after the {building}.
$See you there! {name}
# my-town
^My town is {famous|well known} for its {old|big|beautiful|modern} {building} and its {food|parks|river}.
^I grew up in {city}, a {quiet|busy|small|large} town in {country}.
There <are~is> many {restaurant|shop|park|school|café}s, but there isn't a {building}.
Go straight ahead, turn {left|right} at the {building}, and the {building} is on your {left|right}.
When I <was~were> a child, there <was~were> only one {building} and two {shop}s.
In {season} tourists come by {transport} and <take~takes> photos of the {building}.
The {building} is {older|bigger|cheaper|more beautiful} than the {building}, and it opens at {8-11} o'clock.
Living there is {cheap|expensive|safe|noisy}, because <there are~have> a lot of {car|tourist|student|young family}s.
# my-job
^I <have worked~work> as a {job} since {1995-2023}.
^Two years ago I <became~become> a {job} in a {small|large|foreign} company in {city}.
I usually <start~starting> work at {6-10} o'clock and <finish~finishing> at {15-20} o'clock.
I have to {answer the phone|write e-mails|help customers|drive a van|clean the office|make plans} every {day}.
My boss is {strict|friendly|busy|fair} and he always <gives~give> us too {much|little} work.
Sometimes I must <work~to work> on {day}, but the pay is {good|bad|not enough}.
Yesterday I <met~meeted> a {rude|nice|new} customer who <wanted~want> to buy a {gift}.
I'd like to be a {job} in the future because I <enjoy~enjoy to> {meeting people|using computers|travelling}.
""",
    """
* linking
Although it was {expensive|difficult|far away|raining}, I <decided to~decided> {wait|try again|go on|stay there}.
I <have been~am> {learning|practising|teaching} {hobby} for {2-15} years, which makes me {happy|proud|patient}.
If I <had~would have> more time, I would {travel around {resort}|change my job|learn to cook|join a gym}.
In my opinion, {travelling|exercise|friendship|a good job} is <more important than~more important that> money.
I was so {feeling} that I <forgot to~forgot> {call my {relative}|lock the door|pay the bill|take my keys}.
On the one hand it is {cheap|healthy|exciting|useful}, but on the other hand you <need~needs> {time|patience|money}.
# a-complaint [letter]
^Dear Sir or Madam, I am writing to complain about a {product} that I <bought~have bought> in your shop in {month}.
^Dear Manager, I <am writing~write> because I am not satisfied with the {product} which I ordered on {month} {2-28}.
After I had used the {product} for {2-30} {days|hours|weeks}, it suddenly {fault}.
Your {shop assistant|technician|operator} <promised~promise> that it would be repaired within {2-10} days, but nobody
 has called me back.
I have already {phoned|written to|visited} your {office|service centre|shop} {twice|three times|several times} without
 any <result~results>.
The {manual|receipt|advertisement} says that the {product} <has~is having> a guarantee of {2-5} years.
I would be grateful if you could <send me~send to me> a new {product} or give me my {2-9}00 dollars back.
Because of this problem I <couldn't~can't} {work|cook for my guests|finish my report|call my clients} on {day}.
$I look forward to <hearing~hear> from you as soon as possible. Yours faithfully, {name}
# film-review
^The last film I have seen is a {film} which <was directed~directed> by a young director from {resort}.
^I would like to recommend a {film} that I <watched~have watched> at the cinema last {day}.
It tells the story of a {job} who <falls~fall> in love with a {job} and has to leave {city}.
The main character <is played~is playing> by an actor whose {voice|face|smile|accent} makes you feel {feeling}.
At the beginning the plot is {slow|confusing|funny}, but after {20-60} minutes it <becomes~become> really exciting.
The scene in which they escape from the {building} by {transport} <is filmed~filmed> so well that I couldn't breathe.
Unfortunately the {music|ending|dialogue|special effects} didn't convince me, since I had expected something
 {new|deeper}.
I think that people who are interested in {hobby} <will enjoy~will enjoying> this {film} a lot.
# a-frightening-trip
^While we <were driving~drove> through {resort} last {season}, something happened that I will never forget.
^I will never forget the {day} when my {relative} and I <missed~have missed> the last {transport} to {city}.
Suddenly we <heard~have heard> a noise behind the {building}, and my {relative} started to {cry|run|laugh|shout}.
We had been walking for {2-9} hours before a {job} <offered~has offered> to take us to the next village.
I realised that somebody <had stolen~has stole> my {clothes} with my passport and {2-9}00 dollars in it.
The police officer who {helped|questioned|found} us <told us~said us> that such things often happen in {month}.
As soon as we <arrived~will arrive> at the hotel, we ordered {meal} and tried to calm down.
$In the end everybody was {feeling}, but we <learned~have learned> to be more careful.
# a-healthy-life [letter]
^Hi {name}, thanks for your e-mail! You asked me what you <should do~should to do> to feel better.
^Dear {name}, I was sorry to hear that you <have been~are> feeling {feeling} since {month}.
If I were you, I <would~will> stop eating {meal} in the evening and drink more {drink} instead.
You had better go to bed before {10-12} o'clock, because sleeping less than {5-7} hours <makes~make> you ill.
Why don't you try {swimming|running|dancing|yoga|cycling}? It <helps~help> me relax when I have too much stress.
My doctor advised me <to walk~walking> at least {20-60} minutes a day, and I have lost {2-12} kilos since then.
People who work in an office <tend to~tends> sit too much, so you should take a break every {20-90} minutes.
$Let me know how you are <getting on~getting>! Take care, {name}
""",
    """
* argument
Not only does this lead to {drawback}, but it also <prevents~prevent> {group} from developing {benefit}.
It is often claimed that {technology} <have~has} improved our lives; however, the evidence is far from convincing.
As far as {group} are concerned, the main advantage <lies in~lies on> the {benefit} that {technology} can provide.
According to a recent survey, {30-85} per cent of {group} <would rather~rather> accept {drawback} than give up
 {benefit}.
Having worked in {industry} for {3-20} years, I am fully aware <of the~about the> risks involved.
Had we introduced {measure} earlier, {drawback} could have been <avoided~avoid> altogether.
# social-networks
^Over the past decade, {technology} have changed the way in which {group} <communicate~communicates> with each other.
^There is no doubt that {technology} play an increasingly important role in the lives of {group}.
Critics point out that constant exposure to advertising <encourages~encourage> {drawback}, especially among {group}.
What worries me most is the fact that {group} share personal details without <considering~consider> the consequences.
Supporters, by contrast, argue that {technology} give {group} a voice which they <would otherwise lack~otherwise lack>.
Companies should therefore be obliged to reveal how users' data <is collected~are collecting>, stored and sold.
$All things considered, I believe that the benefits of {technology} outweigh <the drawbacks~drawbacks>, provided that
 {group} are taught how to use them sensibly.
# working-from-home
^The number of {group} who work remotely <has risen~have risen> by {10-70} per cent since {2012-2023}.
^This report examines whether our {industry} branch <should allow~should to allow> staff to work from home.
While {benefit} tends to increase, supervisors frequently complain <about~of> {drawback} and missed deadlines.
Employees who are trusted to organise their own schedule are <less likely~less probably> to resign within {2-5} years.
It would be advisable to run a trial period of {3-9} months before {measure} <is extended~is extend> to the whole firm.
Office rent, which currently <accounts for~accounts> {12-40} per cent of our budget, could be reduced considerably.
$In conclusion, I would recommend that {measure} <be introduced~to be introduced> at the beginning of {month}.
# application [letter]
^Dear Ms {name}, With reference to your advertisement, I <would like~am liking> to apply for the position of regional
 manager in your {industry} division.
^Dear Mr {name}, I am writing to express my interest in the {industry} post <advertised~that advertised> on your
 website.
Since graduating in {1998-2021}, I have been responsible <for~of> {skill} at a medium-sized company in {city}.
In my current role I supervise a team of {3-25} people and have succeeded in <reducing~reduce> costs by {5-40} per cent.
Besides my experience in {skill}, I possess excellent communication skills and am accustomed <to working~to work>
 under pressure.
What attracts me to your company is its reputation <for~of> {benefit} and its commitment to {skill}.
I enclose my CV and would welcome the opportunity <to discuss~of discuss> my qualifications with you in person.
$I look forward to your reply. Yours sincerely, {name}
# green-cities
^Traffic congestion has become one of the most pressing problems <facing~which facing> cities such as {city}.
^Unless local authorities take action, air pollution <will continue~continues> to damage the health of {group}.
One possible solution would be to introduce {measure}, as <has been done~it has been done> successfully in {resort}.
The money raised in this way could be invested in {cycle lanes|public transport|solar panels|tree planting|new parks}.
Opponents maintain that {measure} would place an unfair burden on {group} who cannot afford <to move~moving> closer.
Even so, {group} are gradually coming round to the idea that convenience must not come <at the expense~at expense> of
 the environment.
$To sum up, {measure} may be unpopular at first, but in the long run it is bound <to pay off~paying off>.
""",
    """
* discourse
Were {abstract} to be left unchecked, {realm} would {hedge} succumb to {vice}, a prospect few {scholar} contemplate with
 equanimity.
{Scarcely|Hardly|Barely} had the notion of {virtue} gained currency in {realm} when {scholar} began to question its
 underlying premises.
Such reasoning, however seductive, conflates {virtue} with {virtue} and thereby obscures the {nuance} role that {vice}
 plays in {realm}.
It is precisely this tension between {virtue} and {vice} that renders the debate surrounding {abstract} so {nuance}.
Notwithstanding these reservations, one can hardly deny that {abstract} has, {hedge}, bolstered {virtue} within {realm}.
# globalisation-essay
^Few phenomena have provoked such {nuance} controversy among {scholar} as the relentless advance of {abstract}.
^The discourse on {abstract} is riddled with assumptions that, upon closer scrutiny, prove to be {nuance} at best.
Proponents are wont to extol the {virtue} it purportedly engenders, glossing over the {vice} that festers beneath.
Seldom do {scholar} acknowledge the extent to which {realm} <has been~have been> reshaped by forces beyond its control.
Far from heralding an era of {virtue}, {abstract} may well exacerbate the very {vice} it was meant to alleviate.
$Ultimately, the question is not whether {abstract} should be embraced, but on whose terms, and at what cost to
 {virtue}.
# ethics-of-machines
^As algorithms permeate {realm}, the boundary between human judgement and mechanical inference grows ever more {nuance}.
^That machines might one day arbitrate matters of {virtue} strikes many {scholar} as a {nuance}, if not alarming,
 proposition.
To delegate moral responsibility to opaque systems is, {hedge}, to institutionalise {vice} under the guise of
 neutrality.
What is conspicuously absent from {realm} is any rigorous framework for reconciling {virtue} with commercial
 imperatives.
The onus therefore rests upon legislators to curb {vice} without stifling the ingenuity on which {realm}
 <thrives~thrive>.
$Only by subjecting such systems to {nuance} scrutiny can we hope to safeguard {virtue} for generations to come.
# cities-and-memory
^Wandering through the derelict quarters of {city}, one is struck by how {abstract} has effaced all but the faintest
 vestiges of a {nuance} past.
^The gentrification of {city} epitomises the {nuance} relationship between {abstract} and {realm}.
Erstwhile workshops, now repurposed as boutiques, bear silent testimony to the {vice} that accompanies {abstract}.
Preservationists decry this metamorphosis, whereas developers, unencumbered by nostalgia, tout it as a triumph of
 {virtue}.
Inasmuch as architecture embodies collective memory, its erasure amounts to a {nuance} impoverishment of {realm}.
$Whether {city} can reconcile commerce with {virtue} remains, {hedge}, an open question.
# the-value-of-the-arts
^Amid dwindling subsidies and mounting {vice}, the arts find themselves in an increasingly {nuance} predicament.
^To justify the arts solely on the grounds of economic utility is to misconstrue their {nuance} contribution to {realm}.
Literature, by inhabiting perspectives other than our own, cultivates a {virtue} that no balance sheet could ever
 capture.
The insinuation that {realm} must yield quantifiable dividends betrays a {nuance} failure of imagination.
Deprived of patronage, even the most {nuance} endeavours are liable to be supplanted by spectacle and {vice}.
$It would behove us, then, to regard the arts not as an indulgence but as a bulwark against {vice}.
""",
)

# What weak writers do to words, wherever they stand.
MISSPELLINGS = (
    ("because", "becouse"), ("friend", "freind"), ("beautiful", "beatiful"), ("favourite", "favorit"), (" the ", " "),
    (" a ", " "), ("I ", "i "), ("very", "verry"), ("with", "whit"), ("interest", "intrest"), ("people", "peoples"),
    ("family", "famili"), ("their", "there"), ("which", "wich"), ("restaurant", "restourant"), (" to ", " for "),
    ("would", "wold"), ("company", "compagny"), ("believe", "belive"), ("environment", "enviroment"), (", ", " "),
    ("there", "their"), ("really", "realy"), ("different", "diferent"), (" an ", " a "), ("success", "sucess"),
    (" in ", " on "), (" is ", " are "), ("receive", "recieve"), ("government", "goverment"), ("like", "likes"),
)  # fmt: skip
